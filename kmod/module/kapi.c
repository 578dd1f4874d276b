// SPDX-License-Identifier: GPL-2.0-only
/* The calls of in-kernel users. */
#include <linux/err.h>
#include <linux/export.h>
#include "mlproxy_module.h"
#include "trace.h"

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

	trace_mlproxy_rank(p->core.cfg.name, unit, nr, nr ? p->core.model_version : 0);
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

	mlp_set_critical(p, MLP_CRITICAL_OWNER, on);
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
