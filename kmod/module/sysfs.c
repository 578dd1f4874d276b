// SPDX-License-Identifier: GPL-2.0-only
/* What proxies show in sysfs, and the panic button. See docs/reference/sysfs-abi.md. */
#include <linux/kstrtox.h>
#include <linux/sysfs.h>
#include "mlproxy_module.h"

static const char * const mode_names[] = { "emergency", "learning", "collaboration", "trusted" };
static const char * const state_names[MLP_STATE_NR] = {
	"stopped", "emergency", "gated", "learning", "collaboration", "trusted",
};
static const char * const kind_names[] = { "", "value", "choice", "rank", "program" };
static const char * const clock_names[] = { "monotonic", "caller", "owner" };
static const char * const reason_names[MLP_REASON_NR] = {
	"none", "start", "promoted", "demoted", "no-gain", "heartbeat", "agent-gone", "rejects",
	"cost-spike", "budget", "critical", "operator", "operator-override", "cooldown",
	"latched", "expired", "write-failed",
};

/* One attribute: a text or number of the core, read under its lock. */
#define SHOW(name, format, expression)						\
static ssize_t name##_show(struct device *dev, struct device_attribute *attr,	\
			   char *buf)						\
{										\
	struct mlproxy *p = to_mlproxy(dev);					\
	struct mlp_proxy *core __maybe_unused = &p->core;			\
	unsigned long flags;							\
	ssize_t len;								\
										\
	spin_lock_irqsave(&p->lock, flags);					\
	len = sysfs_emit(buf, format "\n", expression);				\
	spin_unlock_irqrestore(&p->lock, flags);				\
	return len;								\
}										\
static DEVICE_ATTR_RO(name)

static u64 sum_of_rejects(const struct mlp_proxy *core)
{
	u64 sum = 0;
	u32 i;

	for (i = 0; i < MLP_REJECT_NR; i++)
		sum += core->rejected[i];
	return sum;
}

SHOW(mode, "%s", mode_names[mlp_mode_of(core)]);
SHOW(state, "%s", state_names[core->state]);
SHOW(reason, "%s", reason_names[core->reason]);
SHOW(kind, "%s", kind_names[core->kind]);
SHOW(clock, "%s", clock_names[p->clock]);
SHOW(agent, "%d", !!READ_ONCE(p->agent));
SHOW(mode_changes, "%u", core->mode_seq);
SHOW(decisions_default, "%llu", core->decisions[MLP_ARM_DEFAULT]);
SHOW(decisions_model, "%llu", core->decisions[MLP_ARM_MODEL]);
SHOW(fallbacks, "%llu", core->fallbacks);
SHOW(accepted, "%llu", core->accepted);
SHOW(rejected, "%llu", sum_of_rejects(core));
SHOW(trips, "%u", core->trips);
SHOW(latched, "%d", !!(core->holds & MLP_HOLD_LATCH));
SHOW(operator_hold, "%d", !!(core->holds & MLP_HOLD_OPERATOR));
SHOW(model_version, "%u", core->model_version);
SHOW(records, "%llu", core->meta->head);
SHOW(records_lost, "%llu", core->meta->lost);

static struct attribute *mlp_proxy_attrs[] = {
	&dev_attr_mode.attr,
	&dev_attr_state.attr,
	&dev_attr_reason.attr,
	&dev_attr_kind.attr,
	&dev_attr_clock.attr,
	&dev_attr_agent.attr,
	&dev_attr_mode_changes.attr,
	&dev_attr_decisions_default.attr,
	&dev_attr_decisions_model.attr,
	&dev_attr_fallbacks.attr,
	&dev_attr_accepted.attr,
	&dev_attr_rejected.attr,
	&dev_attr_trips.attr,
	&dev_attr_latched.attr,
	&dev_attr_operator_hold.attr,
	&dev_attr_model_version.attr,
	&dev_attr_records.attr,
	&dev_attr_records_lost.attr,
	NULL
};

static const struct attribute_group mlp_proxy_group = { .attrs = mlp_proxy_attrs };

const struct attribute_group *mlp_proxy_groups[] = { &mlp_proxy_group, NULL };

static ssize_t panic_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(mlp_panic));
}

/* 1: default logic in all proxies, also in those to come; 0: as an operator's release. */
static ssize_t panic_store(struct device *dev, struct device_attribute *attr, const char *buf,
			   size_t count)
{
	struct mlproxy *p;
	unsigned long flags;
	bool on;
	int err = kstrtobool(buf, &on);

	if (err)
		return err;
	mutex_lock(&mlp_list_lock);
	WRITE_ONCE(mlp_panic, on);
	list_for_each_entry(p, &mlp_list, node) {
		flags = mlp_enter(p);
		mlp_operator(&p->core, on, mlp_now(p));
		mlp_leave(p, flags);
	}
	mutex_unlock(&mlp_list_lock);
	return count;
}
static DEVICE_ATTR_RW(panic);

static struct attribute *mlp_misc_attrs[] = { &dev_attr_panic.attr, NULL };

static const struct attribute_group mlp_misc_group = { .attrs = mlp_misc_attrs };

const struct attribute_group *mlp_misc_groups[] = { &mlp_misc_group, NULL };
