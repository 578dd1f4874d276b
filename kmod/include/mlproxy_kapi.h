/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mlproxy for users in the kernel: a subsystem that has a decision to make
 * registers a proxy for it, asks it before each operation, and reports what the
 * operations cost.
 */
#ifndef _MLPROXY_KAPI_H
#define _MLPROXY_KAPI_H

#include <linux/types.h>
#include "../uapi/mlproxy_ioctl.h"

struct mlproxy;

/**
 * struct mlproxy_desc - what a proxy is made of
 * @config: of the decision; copied
 * @capacity: records of the ring, a power of two up to MLP_MAX_CAPACITY
 * @rights: MLP_AGENT_REPORTS, MLP_AGENT_TWINS: what the agent may report
 * @clock: the proxy's time, monotonic; NULL: ns of CLOCK_MONOTONIC. Called with
 *	   the proxy's lock held and interrupts off, from any context.
 * @context: for @clock
 *
 * With a clock of its own a proxy is not ticked by the module: its owner calls
 * mlproxy_tick(), and an agent that stops is noticed by the watchdog that it
 * has set at ATTACH.
 */
struct mlproxy_desc {
	const struct mlp_config *config;
	u32 capacity;
	u32 rights;
	u64 (*clock)(void *context);
	void *context;
};

struct mlproxy *mlproxy_register(const struct mlproxy_desc *desc);
void mlproxy_unregister(struct mlproxy *p);

void mlproxy_decide(struct mlproxy *p, u32 stream, const s32 *features, u64 unit,
		    s32 default_action, struct mlp_decision *out);
u32 mlproxy_decide_rank(struct mlproxy *p, u64 unit, u64 *ids, u32 max);
void mlproxy_report(struct mlproxy *p, u32 arm, u64 unit, s64 cost);
void mlproxy_report_twin(struct mlproxy *p, s64 cost_default, s64 cost_model);
void mlproxy_publish(struct mlproxy *p, const struct mlp_record *record);
void mlproxy_critical(struct mlproxy *p, bool on);
void mlproxy_tick(struct mlproxy *p);

#endif /* _MLPROXY_KAPI_H */
