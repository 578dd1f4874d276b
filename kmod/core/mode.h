/* SPDX-License-Identifier: GPL-2.0-only */
/* The mode machine: one table, state x event. */
#ifndef MLPROXY_MODE_H
#define MLPROXY_MODE_H

#include "../uapi/mlproxy.h"

enum mlp_hold {
	MLP_HOLD_OPERATOR	= 1,
	MLP_HOLD_CRITICAL	= 2,
	MLP_HOLD_LATCH		= 4,
};

struct mlp_proxy;

/* Apply an event; every change of mode goes through here. 0 or -EBUSY: refused. */
int mlp_event(struct mlp_proxy *p, __u32 event, __u32 reason, __u64 now);
__u32 mlp_mode_of(const struct mlp_proxy *p);
static inline int mlp_live(__u32 state)
{
	return state >= MLP_STATE_GATED;
}

#endif /* MLPROXY_MODE_H */
