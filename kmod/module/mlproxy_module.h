/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the module's files share.
 *
 * Locks, outermost first:
 * - mlp_list_lock (mutex): the list of proxies, the panic button, and who is
 *   whose agent;
 * - mlproxy.mutex: the agent's calls and the life cycle, one at a time;
 * - mlp_knobs.lock (mutex): writing the knobs;
 * - mlproxy.lock (spinlock, interrupts off): the core. Decisions and outcomes
 *   come from any context but NMI, so nothing under it sleeps or is unbounded.
 *   Checking a program is not done under it (see core/submit.c).
 */
#ifndef _MLPROXY_MODULE_H
#define _MLPROXY_MODULE_H

#include <linux/device.h>
#include <linux/irq_work.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include "../include/mlproxy_kapi.h"
#include "../core/internal.h"

#ifndef CONFIG_64BIT
#error "The ring's positions are 64-bit words that must be read and written whole"
#endif

#define MLP_VERSION	"0.1.0"

struct mlp_knobs;
struct mlproxy_ops;

/* One proxy. Its device's reference count is its own. */
struct mlproxy {
	struct device dev;
	struct list_head node;
	struct mutex mutex;		/* the agent's calls and the life cycle */
	bool gone;			/* mutex: the owner has left */
	bool owned;			/* made by its agent: ends with him */
	bool leaving;			/* mlp_list_lock: only its name is still taken */
	struct file *agent;		/* mlp_list_lock */
	u32 clock;			/* enum mlp_clock */
	u32 rights;			/* MLP_AGENT_* */
	u32 capacity;
	u32 longest;			/* bytes of a recommendation with its body */
	u64 (*owner_clock)(void *context);
	void *context;
	void *ring;
	void *slots;
	struct mlp_knobs *knobs;	/* or NULL */
	u64 watchdog;			/* ns; 0: none */
	u64 heartbeat;			/* lock: real time of the last one */
	const struct mlproxy_ops *ops;	/* mlp_list_lock: a BPF struct_ops */

	struct delayed_work work;	/* ticks, watchdog, knobs */
	struct irq_work wake;		/* wakes readers from any context */
	wait_queue_head_t wait;

	spinlock_t lock;		/* all below */
	u32 watermark;
	u32 critical;			/* MLP_CRITICAL_*: who says so */
	u64 caller_now;			/* MLP_CLOCK_CALLER */
	u32 seen_seq;			/* mode changes that were told */
	u32 seen_mode;
	bool woken;			/* since the last CONSUME */
	bool mode_news;			/* likewise: the mode has changed */
	struct mlp_proxy core;
};

/* Owner and agent each take back only what they have said. */
#define MLP_CRITICAL_OWNER	1
#define MLP_CRITICAL_AGENT	2

static inline struct mlproxy *to_mlproxy(struct device *dev)
{
	return container_of(dev, struct mlproxy, dev);
}

/* proxy.c */
extern struct mutex mlp_list_lock;
extern struct list_head mlp_list;
extern bool mlp_panic;			/* mlp_list_lock */
struct mlproxy *mlp_find(const char *name);		/* mlp_list_lock held */
struct mlproxy *mlp_proxy_create(const struct mlproxy_desc *desc, u32 clock);
int mlp_proxy_add(struct mlproxy *p);
void mlp_proxy_remove(struct mlproxy *p);
u64 mlp_now(const struct mlproxy *p);			/* lock held */
unsigned long mlp_enter(struct mlproxy *p) __acquires(&p->lock);
void mlp_leave(struct mlproxy *p, unsigned long flags) __releases(&p->lock);
void mlp_set_critical(struct mlproxy *p, u32 who, bool on);	/* lock held */
int mlp_proxies_init(void);
void mlp_proxies_exit(void);

/* agent.c: an agent comes and goes, ticks */
void mlp_agent_stop(struct mlproxy *p, u32 reason);	/* mutex held */
void mlp_agent_leave(struct mlproxy *p);		/* mutex held */
void mlp_agent_work(struct work_struct *work);
void mlp_agent_kick(struct mlproxy *p);			/* any context */
void mlp_agent_schedule(struct mlproxy *p);
int mlp_agents_init(void);
void mlp_agents_exit(void);

/* file.c */
extern const struct file_operations mlp_fops;
struct mlproxy *mlp_file_proxy(struct file *file);
void mlp_file_bind(struct file *file, struct mlproxy *p);

/* ioctl.c */
long mlp_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* create.c */
long mlp_ioc_create(struct file *file, void __user *arg);
long mlp_ioc_attach(struct file *file, void __user *arg);
long mlp_ioc_reinit(struct mlproxy *p, void __user *arg);

/* knob.c */
int mlp_knobs_take(struct mlproxy *p, struct mlp_ioc_create *how);
u64 mlp_knobs_run(struct mlproxy *p);	/* ns until it has something to do */
void mlp_knobs_restore(struct mlproxy *p);
void mlp_knobs_release(struct mlproxy *p, bool end);
int mlp_knobs_state(struct mlproxy *p, struct mlp_ioc_knobs *out);

/* sysfs.c */
extern const struct attribute_group *mlp_proxy_groups[];
extern const struct attribute_group *mlp_misc_groups[];

/* struct_ops.c */
int mlp_struct_ops_init(void);
u32 mlp_struct_ops_feature(void);

#endif /* _MLPROXY_MODULE_H */
