/* SPDX-License-Identifier: GPL-2.0-only */
/* What the two files about knobs share. */
#ifndef _MLPROXY_KNOB_H
#define _MLPROXY_KNOB_H

#include "mlproxy_module.h"

#define MLP_NO_EPOCH	(~0ULL)

struct mlp_held {
	struct file *file;
	s64 min;
	s64 max;
	char restore[MLP_KNOB_TEXT];
	char trigger[MLP_KNOB_TEXT];	/* not empty: has no value */
	char seen[MLP_KNOB_TEXT];	/* what it read after our last write */
	bool readable;
};

struct mlp_knobs {
	struct mutex lock;		/* all of this; writes may sleep */
	struct list_head node;		/* mlp_held_lock */
	u32 nr;
	u32 applied;			/* a model's setting is in force */
	u32 overridden;			/* 1 + index */
	bool unsure;			/* likewise: a restore has yet to succeed */
	s64 setting;
	s32 default_action;
	u64 epoch;			/* that was decided, or NO_EPOCH */
	struct mlp_decision decision;
	u64 writes, restores, failures;
	u64 since;			/* of the last change */
	s64 *settings;			/* [max + 1][nr], or NULL: the value itself */
	struct mlp_held held[MLP_MAX_KNOBS];
};

/* Whether the knob is one that makes the others' values count. */
static inline bool mlp_is_trigger(const struct mlp_held *h)
{
	return h->trigger[0];
}

int mlp_knob_put(struct mlp_held *h, const char *text);
int mlp_knob_put_back(struct mlp_held *h);
void mlp_knob_remember(struct mlp_held *h);

#endif /* _MLPROXY_KNOB_H */
