/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the core share, and nobody else sees. */
#ifndef MLPROXY_INTERNAL_H
#define MLPROXY_INTERNAL_H

#include "mlproxy_core.h"
#include "compat.h"
#include "fixed.h"
#include "ledger.h"
#include "mode.h"

#define MLP_FAST_WINDOW		32	/* pairs until a fast ledger restarts */
#define MLP_FIRST_HORIZON	256	/* pairs until the long one does; doubles */
#define MLP_LAST_HORIZON	131072	/* before trust: patient with small gains */
#define MLP_TRUST_HORIZON	4096	/* with trust: history must not protect */
#define MLP_FORGIVE_PAIRS	256	/* so many in one trusted stay clear trips */
#define MLP_USUAL_COUNT		8	/* windows that teach what is usual */
#define MLP_MAX_BACKOFF		20
#define MLP_COST_LIMIT		(1LL << 45)

/* A recommendation that acts until it expires. */
struct mlp_slot {
	__u64 expiry;
	__u32 model_version;
	__u32 confidence;
	__s64 value;		/* VALUE, CHOICE */
	__u32 nr;		/* RANK */
	__u32 valid;
};

/* The comparison of the arms from one source of evidence. */
struct mlp_court {
	struct mlp_ledger whole;	/* since the mode change or the horizon */
	struct mlp_ledger fast[2];	/* staggered, for quick distrust */
	__u64 seen;			/* pairs since the mode change */
	__u64 horizon;
	__s64 regret;
	/* trial: reports that wait for the other arm's */
	__s64 open_sum[2];
	__u32 open_count[2];
	__u32 spike_run;
	__u32 decided;			/* ledger that a change is decided on, from 1 */
	struct mlp_bounds bounds;	/* what it says then */
};

/* What is usual here, so that noise is not taken for a spike; outlives modes. */
struct mlp_usual {
	__s64 mean;			/* fading; trial: of the default's cost; */
	__s64 spread;			/* twin: of model - default. Spread: fading */
	__u64 count;			/* mean of the distance from that mean */
};

struct mlp_proxy {
	/* Decision path: read often, written at mode changes and submits. */
	__u32 share;			/* ppm of units that are the model's now */
	__u32 kind;
	__u32 trial;
	__u32 nr_streams;
	__u64 salt;
	__u64 epoch;
	__u64 decisions[2];
	__u64 fallbacks;
	__u32 sample_every;
	__u32 sample_left;
	mlp_walk_fn walk;		/* evaluates in place of programs, or NULL */
	void *walk_context;
	char *slots;			/* program nodes or rank ids, two per stream */
	__u64 slot_bytes;
	__u32 active[MLP_MAX_STREAMS];	/* which of the two slots acts */
	struct mlp_slot slot[MLP_MAX_STREAMS][2];

	struct mlp_config cfg;

	struct mlp_ring_meta *meta;
	struct mlp_record *records;
	__u64 ring_mask;

	/* Mode machine (mode.c). */
	__u32 state;			/* enum mlp_state */
	__u32 reason;
	__u32 holds;			/* MLP_HOLD_* */
	__u32 trips;
	__u32 backoff;
	__u32 attempts;
	__u32 trusted_pairs;		/* of the evidence that promotes */
	__u32 mode_seq;
	__u64 mode_since;		/* also: evidence since */
	__u64 state_since;
	__u64 mode_time[4];
	__u64 cooldown_until;

	/* Agent. */
	__u64 accepted;
	__u64 rejected[MLP_REJECT_NR];
	__u64 reject_start;
	__u32 reject_count;
	__u32 model_id;
	__u32 model_version;
	__u64 last_heartbeat;
	__u64 last_seq;
	__u32 silent;			/* mlp_silent() */

	/* Outcomes. */
	__s64 budget_used;
	struct mlp_usual trial_usual;
	struct mlp_usual twin_usual;
	struct mlp_court trial_court;
	struct mlp_court twin_court;
};

/* The slot of a stream whose recommendation acts now, or NULL. */
static inline const struct mlp_slot *mlp_acting(const struct mlp_proxy *p,
						__u32 stream, __u64 now)
{
	const struct mlp_slot *slot;

	slot = &p->slot[stream][mlp_load_acquire(&p->active[stream])];
	return mlp_likely(slot->valid && now <= slot->expiry) ? slot : NULL;
}

static inline void *mlp_slot_memory(const struct mlp_proxy *p, __u32 stream, __u32 which)
{
	return p->slots + (stream * 2 + which) * p->slot_bytes;
}

void mlp_ring_init(struct mlp_proxy *p, void *memory, __u32 capacity);
void mlp_evidence_reset(struct mlp_proxy *p);
void mlp_trial_reset(struct mlp_proxy *p);
void mlp_evidence_of(const struct mlp_proxy *p, const struct mlp_court *court,
		     struct mlp_evidence *out);

#endif /* MLPROXY_INTERNAL_H */
