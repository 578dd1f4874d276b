/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The proxy core: one decision of one subsystem.
 *
 * The same files are compiled into mlproxy.ko and, through cffi, into the
 * Python package. So: no libc beyond memcpy/memset, no floating point, no
 * allocation, no clock (the caller passes the time in), bounded time in every
 * call, and the same result for the same seed and the same calls.
 */
#ifndef MLPROXY_CORE_H
#define MLPROXY_CORE_H

#include "../uapi/mlproxy.h"

struct mlp_proxy;	/* its size: mlp_proxy_size() */

#define MLP_MAX_STREAMS		4

/*
 * enum mlp_state - where the mode machine is; modes are what others see.
 * Stopped and emergency are both mode "emergency", gated and learning are both
 * mode "learning": a gated proxy gives the model no real operation yet.
 */
enum mlp_state {
	MLP_STATE_STOPPED	= 0,
	MLP_STATE_EMERGENCY	= 1,
	MLP_STATE_GATED		= 2,
	MLP_STATE_LEARNING	= 3,
	MLP_STATE_COLLABORATION	= 4,
	MLP_STATE_TRUSTED	= 5,
	MLP_STATE_NR		= 6,
};

/* enum mlp_event - what can happen to it. */
enum mlp_event {
	MLP_EVENT_START			= 0,
	MLP_EVENT_STOP			= 1,	/* also: agent gone */
	MLP_EVENT_PROMOTE		= 2,
	MLP_EVENT_DEMOTE		= 3,
	MLP_EVENT_NO_GAIN		= 4,
	MLP_EVENT_HEARTBEAT		= 5,
	MLP_EVENT_REJECTS		= 6,
	MLP_EVENT_SPIKE			= 7,
	MLP_EVENT_BUDGET		= 8,
	MLP_EVENT_CRITICAL_ON		= 9,
	MLP_EVENT_CRITICAL_OFF		= 10,
	MLP_EVENT_OPERATOR_ON		= 11,
	MLP_EVENT_OPERATOR_OFF		= 12,
	MLP_EVENT_COOLDOWN_OVER		= 13,
	MLP_EVENT_LATCH			= 14,
	MLP_EVENT_SET_EMERGENCY		= 15,	/* mlp_set_mode() */
	MLP_EVENT_SET_LEARNING		= 16,
	MLP_EVENT_SET_COLLABORATION	= 17,
	MLP_EVENT_SET_TRUSTED		= 18,
	MLP_EVENT_NR			= 19,
};

/* What a cell of the table does besides going to its state. */
#define MLP_DO_TRIP		1	/* counts toward the latch */
#define MLP_DO_BACKOFF		2	/* the next cooldown is longer */
#define MLP_DO_COOLDOWN		4	/* the cooldown begins now */
#define MLP_DO_FORGET		8	/* evidence starts anew, state unchanged */
#define MLP_DO_REFUSE		16	/* not allowed here: nothing changes */

/** struct mlp_cell - one cell: what an event does in a state. */
struct mlp_cell {
	__u8 next;		/* enum mlp_state */
	__u8 flags;		/* MLP_DO_* */
};

/**
 * struct mlp_config - what is fixed when a proxy is made. Times are in the
 * proxy's own time unit, shares and rates in parts per million (ppm), costs
 * are fixed point and lower is better.
 */
struct mlp_config {
	char name[MLP_NAME_LEN];
	__u64 seed;
	__u32 kind;			/* enum mlp_kind */
	__u32 trial;			/* enum mlp_trial */
	__u32 nr_features;		/* <= MLP_MAX_FEATURES */
	__u32 nr_streams;		/* feature streams (programs side by side), 1..4 */
	__u32 max_nodes;		/* PROGRAM: largest program; sizes the slots */
	__u32 noise_levels;		/* noise may hang together over 2^n windows, 0..7 */
	__s64 min;			/* VALUE, PROGRAM: range, within 32 bits; */
	__s64 max;			/* CHOICE: 0..actions - 1; RANK: candidate ids */
	__u32 share_learning;		/* ppm of units given to the model, 50000 */
	__u32 share_collaboration;	/* 500000 */
	__u32 share_trusted;		/* 950000 */
	__u32 sample_every;		/* publish one decision in so many; 0: none */
	__u64 epoch;			/* SWITCHBACK: length */
	__u32 epoch_settle;		/* SWITCHBACK: ppm of an epoch not scored */
	__u32 twin_gate;		/* 1: no real operation before a win on the twin */
	__u32 alpha;			/* ppm: false-promotion rate */
	__u32 alpha_demote;		/* ppm: for demotion, larger: quick to distrust */
	__u32 min_effect;		/* ppm of the default's cost: saving worth having */
	__u32 min_count;		/* scored pairs before any promotion */
	__u64 dwell;			/* least time in a mode before promotion */
	__u64 heartbeat_limit;		/* 0: no heartbeat needed */
	__u64 max_expiry;		/* a recommendation may live so long */
	__u32 reject_limit;		/* rejects within reject_window: emergency */
	__u32 trip_limit;		/* emergencies until latched */
	__u64 reject_window;
	__u32 spike;			/* ppm above the recent default: fast guard */
	__u32 spike_count;		/* so many scored windows in a row */
	__s64 budget;			/* cumulative cost above the default's; 0: none */
	__u64 cooldown;			/* emergency -> learning; doubles, up to */
	__u64 cooldown_max;
	__u64 reserved[4];
};

/** struct mlp_decision - what mlp_decide() says. */
struct mlp_decision {
	__s32 arm;		/* enum mlp_arm */
	__s32 action;		/* what to do */
	__u32 model_version;	/* 0: default */
	__u32 confidence;	/* 0..1000 */
};

/** struct mlp_arm_stats - one arm of the ledger. Means are fixed point. */
struct mlp_arm_stats {
	__u64 count;
	__s64 mean;
	__s64 deviation;	/* standard deviation of a scored cost */
};

/** struct mlp_evidence - one comparison of the arms. */
struct mlp_evidence {
	struct mlp_arm_stats arm[2];
	__u64 pairs;
	__s64 saving_ppm;	/* (default - model) / default */
	__s64 lower_ppm;	/* always-valid confidence bounds of the saving */
	__s64 upper_ppm;
	__s64 regret;		/* sum of (model - default) since the mode began */
};

/** struct mlp_snapshot - everything a person or a feed wants to know. */
struct mlp_snapshot {
	__u64 now;
	__u32 mode;
	__u32 reason;
	__u64 mode_since;
	__u32 mode_seq;
	__u32 latched;
	__u32 operator_hold;	/* operator asked for emergency and has not left it */
	__u32 trips;
	__u32 state;			/* enum mlp_state */
	__u32 attempts;			/* tries at promotion; each spends less alpha */
	__u64 mode_time[4];	/* time spent in each mode */
	__u64 decisions[2];	/* by arm */
	__u64 fallbacks;	/* model's turn, but nothing valid: default acted */
	__u64 accepted;
	__u64 rejected[MLP_REJECT_NR];
	__u64 last_heartbeat;
	__u64 last_seq;
	__u32 model_id;
	__u32 model_version;
	struct mlp_evidence trial;
	struct mlp_evidence twin;
	__u64 ring_head;
	__u64 ring_lost;
	__s64 budget_used;
	__u64 cooldown_until;
};

/* Life cycle. Memory is the caller's; sizes are fixed at build time. */
__u64 mlp_proxy_size(void);
__u64 mlp_ring_size(__u32 capacity);	/* meta page + records, bytes */
/* Returns 0 or -EINVAL; *bad names the first wrong field (static string). */
int mlp_config_check(const struct mlp_config *cfg, const char **bad);
/* Bytes for the recommendations' bodies: programs or rank ids, two per stream. */
__u64 mlp_slots_size(const struct mlp_config *cfg);
/* @ring may be NULL (nothing is published), @slots when mlp_slots_size() is 0. */
int mlp_init(struct mlp_proxy *p, const struct mlp_config *cfg, void *slots,
	     void *ring, __u32 capacity, __u64 now);
int mlp_start(struct mlp_proxy *p, __u64 now);	/* -> learning */
int mlp_stop(struct mlp_proxy *p, __u64 now, __u32 reason);	/* -> emergency */

/* Decision path. mlp_arm_of() is the trial's assignment; mlp_decide() also
 * looks whether the model has something valid to say, and then only says MODEL.
 */
__u32 mlp_arm_of(const struct mlp_proxy *p, __u64 unit, __u64 now);
void mlp_decide(struct mlp_proxy *p, __u32 stream, const __s32 *features,
		__u64 unit, __s32 default_action, __u64 now,
		struct mlp_decision *out);
/* RANK: ids that the model prefers, best first; returns how many. */
__u32 mlp_decide_rank(struct mlp_proxy *p, __u64 unit, __u64 now,
		      __u64 *ids, __u32 max);

/* Outcomes: a scored window of one arm; the same window on both twins. Both
 * publish their OUTCOME or TWIN record themselves.
 */
void mlp_report(struct mlp_proxy *p, __u32 arm, __u64 unit, __s64 cost, __u64 now);
void mlp_report_twin(struct mlp_proxy *p, __s64 cost_default, __s64 cost_model,
		     __u64 now);
void mlp_publish(struct mlp_proxy *p, const struct mlp_record *rec);

/* Agent and operator. */
int mlp_submit(struct mlp_proxy *p, const void *rec, __u64 len, __u64 now);
	/* 0 or -(enum mlp_reject) */
void mlp_heartbeat(struct mlp_proxy *p, __u64 now);
void mlp_tick(struct mlp_proxy *p, __u64 now);
int mlp_consume(struct mlp_proxy *p, __u64 upto);	/* records up to seq are read */
void mlp_critical(struct mlp_proxy *p, int on, __u64 now);
int mlp_set_mode(struct mlp_proxy *p, __u32 mode, __u32 reason, __u64 now);
void mlp_operator(struct mlp_proxy *p, int emergency, __u64 now); /* off clears the latch */
void mlp_snapshot(const struct mlp_proxy *p, struct mlp_snapshot *out, __u64 now);

/* The mode machine's table, for tests and documents. */
void mlp_mode_cell(__u32 state, __u32 event, struct mlp_cell *out);

/* A program by itself, for twins and tests: validated, then evaluated. */
/* @cfg may be NULL: then only what every proxy demands is checked. */
int mlp_program_check(const void *program, __u64 len, const struct mlp_config *cfg);
__s32 mlp_program_eval(const void *program, const __s32 *features, __u32 *confidence);

#endif /* MLPROXY_CORE_H */
