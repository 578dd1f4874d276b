// SPDX-License-Identifier: GPL-2.0-only
/*
 * The agent's absence: a proxy falls back when its agent leaves, and, through
 * delayed work, when it is silent. The same work looks after the knobs.
 */
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include "mlproxy_module.h"

static struct workqueue_struct *mlp_workqueue, *mlp_knob_workqueue;

/*
 * Falling back must not wait for memory. But what is behind a knob may wait for
 * work of queues that do, which a queue for reclaim must not.
 */
static struct workqueue_struct *queue_of(const struct mlproxy *p)
{
	return p->knobs ? mlp_knob_workqueue : mlp_workqueue;
}

void mlp_agent_schedule(struct mlproxy *p)
{
	if (p->clock == MLP_CLOCK_MONOTONIC || p->watchdog)
		mod_delayed_work(queue_of(p), &p->work, 0);
}

/* From the wake-up of readers: the mode may have changed under the knobs. */
void mlp_agent_kick(struct mlproxy *p)
{
	if (p->knobs && !READ_ONCE(p->gone))
		mod_delayed_work(mlp_knob_workqueue, &p->work, 0);
}

/* Until @begin + @limit. */
static u64 until(u64 begin, u64 limit, u64 now)
{
	return mlp_usub(mlp_uadd(begin, limit), now);
}

/* Lets time pass; returns ns until more of it must. 0: nothing to wait for. */
static u64 pass_time(struct mlproxy *p)
{
	u64 real = ktime_get_ns(), next = NSEC_PER_SEC;
	unsigned long flags = mlp_enter(p);
	struct mlp_proxy *core = &p->core;
	u64 now = mlp_now(p);

	if (core->state == MLP_STATE_STOPPED) {
		mlp_leave(p, flags);
		return 0;
	}
	if (p->clock == MLP_CLOCK_MONOTONIC) {
		mlp_tick(core, now);
		if (core->cfg.heartbeat_limit && mlp_live(core->state))
			next = min(next, until(core->last_heartbeat,
					       core->cfg.heartbeat_limit, now));
		if (core->state == MLP_STATE_EMERGENCY && core->cooldown_until > now)
			next = min(next, core->cooldown_until - now);
	}
	if (p->watchdog) {
		if (mlp_usub(real, p->heartbeat) > p->watchdog)
			mlp_silent(core, 1, now);
		else
			next = min(next, until(p->heartbeat, p->watchdog, real));
	}
	mlp_leave(p, flags);
	return next + 1;
}

void mlp_agent_work(struct work_struct *work)
{
	struct mlproxy *p = container_of(to_delayed_work(work), struct mlproxy, work);
	u64 next = pass_time(p);

	if (p->knobs)
		next = min(next, mlp_knobs_run(p));
	/* Not mod_: a kick that came meanwhile must not be put off. */
	if (next)
		queue_delayed_work(queue_of(p), &p->work, nsecs_to_jiffies(next) + 1);
}

/* The default acts from here on, and the knobs are back when this returns. */
void mlp_agent_stop(struct mlproxy *p, u32 reason)
{
	unsigned long flags;

	lockdep_assert_held(&p->mutex);
	flags = mlp_enter(p);
	mlp_stop(&p->core, mlp_now(p), reason);
	mlp_leave(p, flags);
	if (p->knobs)
		mlp_knobs_restore(p);
}

/* Likewise, and no work runs or will run for that agent. */
void mlp_agent_leave(struct mlproxy *p)
{
	unsigned long flags;

	mlp_agent_stop(p, MLP_REASON_AGENT_GONE);
	flags = mlp_enter(p);
	mlp_set_critical(p, MLP_CRITICAL_AGENT, false);
	mlp_leave(p, flags);
	irq_work_sync(&p->wake);	/* its kick queues work: that comes before */
	cancel_delayed_work_sync(&p->work);
	p->watchdog = 0;
}

int mlp_agents_init(void)
{
	mlp_workqueue = alloc_workqueue("mlproxy", WQ_UNBOUND | WQ_HIGHPRI | WQ_MEM_RECLAIM, 0);
	if (!mlp_workqueue)
		return -ENOMEM;
	mlp_knob_workqueue = alloc_workqueue("mlproxy_knobs", WQ_UNBOUND | WQ_HIGHPRI, 0);
	if (mlp_knob_workqueue)
		return 0;
	destroy_workqueue(mlp_workqueue);
	return -ENOMEM;
}

void mlp_agents_exit(void)
{
	destroy_workqueue(mlp_knob_workqueue);
	destroy_workqueue(mlp_workqueue);
}
