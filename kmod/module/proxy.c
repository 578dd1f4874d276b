// SPDX-License-Identifier: GPL-2.0-only
/* Proxies: made, listed, taken away; and the calls of in-kernel users. */
#include <linux/ctype.h>
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>
#include "../compat/mlproxy_compat.h"
#include "mlproxy_module.h"
#include "trace.h"

/* The list, the panic button, who is whose agent, whose the struct_ops are. */
DEFINE_MUTEX(mlp_list_lock);
LIST_HEAD(mlp_list);
bool mlp_panic;

static struct class *mlp_class;

struct mlproxy *mlp_find(const char *name)
{
	struct mlproxy *p;

	lockdep_assert_held(&mlp_list_lock);
	list_for_each_entry(p, &mlp_list, node)
		if (!strcmp(p->core.cfg.name, name))
			return p;
	return NULL;
}

u64 mlp_now(const struct mlproxy *p)
{
	switch (p->clock) {
	case MLP_CLOCK_CALLER:
		return p->caller_now;
	case MLP_CLOCK_OWNER:
		return p->owner_clock(p->context);
	default:
		return ktime_get_ns();
	}
}

unsigned long mlp_enter(struct mlproxy *p) __acquires(&p->lock)
{
	unsigned long flags;

	spin_lock_irqsave(&p->lock, flags);
	return flags;
}

/* Tells what has happened meanwhile: readers are woken, knobs looked after. */
void mlp_leave(struct mlproxy *p, unsigned long flags) __releases(&p->lock)
{
	const struct mlp_ring_meta *meta = p->core.meta;
	bool wake = false;

	if (p->seen_seq != p->core.mode_seq) {
		trace_mlproxy_mode(p->core.cfg.name, p->seen_mode, mlp_mode_of(&p->core),
				   p->core.reason, mlp_now(p));
		p->seen_seq = p->core.mode_seq;
		p->seen_mode = mlp_mode_of(&p->core);
		p->mode_news = true;
		wake = true;
	} else if (!p->woken && meta->head - meta->tail >= p->watermark) {
		wake = true;
	}
	p->woken |= wake;
	spin_unlock_irqrestore(&p->lock, flags);
	if (wake)
		irq_work_queue(&p->wake);
}

static void mlp_wake(struct irq_work *work)
{
	struct mlproxy *p = container_of(work, struct mlproxy, wake);

	wake_up_interruptible(&p->wait);
	mlp_agent_kick(p);
}

static void mlp_device_release(struct device *dev)
{
	struct mlproxy *p = to_mlproxy(dev);

	irq_work_sync(&p->wake);
	vfree(p->ring);
	kvfree(p->slots);
	mutex_destroy(&p->mutex);
	kfree(p);
}

/* The name becomes a directory in sysfs and a topic of the feed. */
static bool mlp_name_ok(const char *name)
{
	if (!isalnum(*name))
		return false;
	for (; *name; name++)
		if (!isalnum(*name) && !strchr("._-", *name))
			return false;
	return true;
}

/*
 * Makes a proxy that nobody sees yet; put_device() frees it. The configuration
 * was checked. ERR_PTR() on error.
 */
struct mlproxy *mlp_proxy_create(const struct mlproxy_desc *desc, u32 clock)
{
	u64 slots = mlp_slots_size(desc->config);
	struct mlproxy *p;
	int err = -ENOMEM;

	if (!mlp_name_ok(desc->config->name) || !is_power_of_2(desc->capacity) ||
	    desc->capacity > MLP_MAX_CAPACITY)
		return ERR_PTR(-EINVAL);
	p = kzalloc(sizeof(*p), GFP_KERNEL_ACCOUNT);
	if (!p)
		return ERR_PTR(-ENOMEM);
	device_initialize(&p->dev);
	p->dev.class = mlp_class;
	p->dev.release = mlp_device_release;
	p->dev.groups = mlp_proxy_groups;
	device_set_pm_not_required(&p->dev);
	INIT_LIST_HEAD(&p->node);
	mutex_init(&p->mutex);
	spin_lock_init(&p->lock);
	init_waitqueue_head(&p->wait);
	init_irq_work(&p->wake, mlp_wake);
	INIT_DELAYED_WORK(&p->work, mlp_agent_work);
	p->clock = clock;
	p->rights = desc->rights;
	p->capacity = desc->capacity;
	p->owner_clock = desc->clock;
	p->context = desc->context;
	p->watermark = 1;
	/* vmalloc_user(): zeroed, and may be mapped. */
	p->ring = vmalloc_user(PAGE_ALIGN(mlp_ring_size(desc->capacity)));
	if (!p->ring)
		goto put;
	if (slots) {
		p->slots = kvzalloc(slots, GFP_KERNEL_ACCOUNT);
		if (!p->slots)
			goto put;
	}
	err = mlp_init(&p->core, desc->config, p->slots, p->ring, desc->capacity, mlp_now(p));
	if (err)
		goto put;
	err = dev_set_name(&p->dev, "%s", desc->config->name);
	if (err)
		goto put;
	return p;

put:
	put_device(&p->dev);
	return ERR_PTR(err);
}

/* Shows it to the world. -EEXIST: the name is taken. */
int mlp_proxy_add(struct mlproxy *p)
{
	int err = -EEXIST;

	mutex_lock(&mlp_list_lock);
	if (mlp_find(p->core.cfg.name))
		goto out;
	err = device_add(&p->dev);
	if (err)
		goto out;
	if (mlp_panic)
		mlp_operator(&p->core, 1, mlp_now(p));
	list_add_tail(&p->node, &mlp_list);
out:
	mutex_unlock(&mlp_list_lock);
	return err;
}

/*
 * Takes it away. An agent that still has it finds it gone; the memory goes
 * with the last reference. No call of the owner may be under way.
 */
void mlp_proxy_remove(struct mlproxy *p)
{
	unsigned long flags;

	mutex_lock(&mlp_list_lock);
	list_del_init(&p->node);
	flags = mlp_enter(p);
	mlp_set_walker(&p->core, NULL, NULL);
	mlp_leave(p, flags);
	p->ops = NULL;
	mutex_unlock(&mlp_list_lock);

	mutex_lock(&p->mutex);
	WRITE_ONCE(p->gone, true);	/* mlp_agent_kick() reads it without the mutex */
	mlp_agent_leave(p);
	mlp_knobs_release(p);
	mutex_unlock(&p->mutex);
	wake_up_interruptible(&p->wait);
	device_del(&p->dev);
	put_device(&p->dev);
}

/**
 * mlproxy_register - make a proxy for a decision
 * @desc: what it is made of
 *
 * May sleep. Return: the proxy, or ERR_PTR(): -EINVAL for a configuration or
 * name that is not allowed, -EEXIST when the name is taken, -ENOMEM.
 */
struct mlproxy *mlproxy_register(const struct mlproxy_desc *desc)
{
	u32 clock = desc->clock ? MLP_CLOCK_OWNER : MLP_CLOCK_MONOTONIC;
	struct mlproxy *p;
	const char *bad;
	int err;

	if (desc->rights & ~(MLP_AGENT_REPORTS | MLP_AGENT_TWINS))
		return ERR_PTR(-EINVAL);
	if (mlp_config_check(desc->config, &bad)) {
		pr_err("mlproxy: %.*s: %s is not allowed\n", MLP_NAME_LEN - 1,
		       desc->config->name, bad);
		return ERR_PTR(-EINVAL);
	}
	p = mlp_proxy_create(desc, clock);
	if (IS_ERR(p))
		return p;
	err = mlp_proxy_add(p);
	if (err) {
		put_device(&p->dev);
		return ERR_PTR(err);
	}
	return p;
}
EXPORT_SYMBOL_GPL(mlproxy_register);

/**
 * mlproxy_unregister - take a proxy away
 * @p: the proxy; no other call with it may be under way or follow
 *
 * May sleep. The agent, if there is one, gets ENODEV from now on.
 */
void mlproxy_unregister(struct mlproxy *p)
{
	mlp_proxy_remove(p);
}
EXPORT_SYMBOL_GPL(mlproxy_unregister);

/**
 * mlproxy_decide - who acts, and what to do, for one operation
 * @p: the proxy
 * @stream: feature stream, 0 for the first
 * @features: config.nr_features of them, quantised; may be NULL without features
 * @unit: trial unit (inode, device, ...) whose operations stay with one arm
 * @default_action: what the default logic would do
 * @out: the decision; its action is @default_action unless the model acts
 *
 * Any context but NMI; never sleeps, allocates or fails.
 */
void mlproxy_decide(struct mlproxy *p, u32 stream, const s32 *features, u64 unit,
		    s32 default_action, struct mlp_decision *out)
{
	unsigned long flags = mlp_enter(p);

	mlp_decide(&p->core, stream, features, unit, default_action, mlp_now(p), out);
	trace_mlproxy_decision(p->core.cfg.name, stream, unit, default_action, out);
	mlp_leave(p, flags);
}
EXPORT_SYMBOL_GPL(mlproxy_decide);

/**
 * mlproxy_decide_rank - the candidates that the model prefers, best first
 * @p: a proxy of kind rank
 * @unit: trial unit
 * @ids: room for @max ids
 * @max: how many at the most
 *
 * The ids were candidates when they were recommended: whether they still are,
 * the caller checks. Context as mlproxy_decide(). Return: how many; 0: the
 * default acts.
 */
u32 mlproxy_decide_rank(struct mlproxy *p, u64 unit, u64 *ids, u32 max)
{
	unsigned long flags = mlp_enter(p);
	u32 nr = mlp_decide_rank(&p->core, unit, mlp_now(p), ids, max);

	mlp_leave(p, flags);
	return nr;
}
EXPORT_SYMBOL_GPL(mlproxy_decide_rank);

/**
 * mlproxy_report - what a scored window of one arm cost
 * @p: the proxy
 * @arm: enum mlp_arm
 * @unit: trial unit
 * @cost: fixed point, lower is better
 *
 * Context as mlproxy_decide(). May change the mode.
 */
void mlproxy_report(struct mlproxy *p, u32 arm, u64 unit, s64 cost)
{
	unsigned long flags = mlp_enter(p);

	mlp_report(&p->core, arm, unit, cost, mlp_now(p));
	mlp_leave(p, flags);
}
EXPORT_SYMBOL_GPL(mlproxy_report);

/**
 * mlproxy_report_twin - what one window cost both arms on the twin
 * @p: the proxy
 * @cost_default: of the default, fixed point
 * @cost_model: of the model
 *
 * Context as mlproxy_decide(). May change the mode.
 */
void mlproxy_report_twin(struct mlproxy *p, s64 cost_default, s64 cost_model)
{
	unsigned long flags = mlp_enter(p);

	mlp_report_twin(&p->core, cost_default, cost_model, mlp_now(p));
	mlp_leave(p, flags);
}
EXPORT_SYMBOL_GPL(mlproxy_report_twin);

/**
 * mlproxy_publish - put a record into the ring
 * @p: the proxy
 * @record: a label or sample; its sequence number is given here
 *
 * Context as mlproxy_decide(). The oldest unread record gives way when the
 * ring is full, and is counted.
 */
void mlproxy_publish(struct mlproxy *p, const struct mlp_record *record)
{
	unsigned long flags = mlp_enter(p);

	mlp_publish(&p->core, record);
	mlp_leave(p, flags);
}
EXPORT_SYMBOL_GPL(mlproxy_publish);

/**
 * mlproxy_critical - the subsystem is in need, or no longer
 * @p: the proxy
 * @on: true: emergency at once and until false
 *
 * Context as mlproxy_decide().
 */
void mlproxy_critical(struct mlproxy *p, bool on)
{
	unsigned long flags = mlp_enter(p);

	mlp_critical(&p->core, on, mlp_now(p));
	mlp_leave(p, flags);
}
EXPORT_SYMBOL_GPL(mlproxy_critical);

/**
 * mlproxy_tick - let a clock of the owner's pass
 * @p: a proxy with a clock of its own
 *
 * Context as mlproxy_decide(). Call it often enough for heartbeat limit and
 * cooldown to be seen in time.
 */
void mlproxy_tick(struct mlproxy *p)
{
	unsigned long flags = mlp_enter(p);

	mlp_tick(&p->core, mlp_now(p));
	mlp_leave(p, flags);
}
EXPORT_SYMBOL_GPL(mlproxy_tick);

int mlp_proxies_init(void)
{
	int err;

	err = mlp_agents_init();
	if (err)
		return err;
	mlp_class = mlp_class_create("mlproxy");
	if (IS_ERR(mlp_class)) {
		mlp_agents_exit();
		return PTR_ERR(mlp_class);
	}
	return 0;
}

void mlp_proxies_exit(void)
{
	class_destroy(mlp_class);
	mlp_agents_exit();
}
