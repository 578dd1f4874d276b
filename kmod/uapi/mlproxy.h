/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * mlproxy user ABI: what the proxy and its agent share in memory.
 *
 * The same layout serves the kernel module (mmap of /dev/mlproxy) and the
 * in-process proxy; user space reads both through the same views. All types
 * are fixed width, there is no implicit padding, and every reserved field is
 * zero until a later version gives it a meaning.
 */
#ifndef _UAPI_MLPROXY_H
#define _UAPI_MLPROXY_H

#include <linux/types.h>

#define MLP_ABI_VERSION		1
#define MLP_MAGIC		0x31504c4d	/* "MLP1", little endian */

#define MLP_MAX_FEATURES	16
#define MLP_MAX_NODES		1024	/* of a program, all trees together */
#define MLP_MAX_TREES		8
#define MLP_MAX_DEPTH		24
#define MLP_MAX_CHOICES		64
#define MLP_MAX_RANK		64
#define MLP_MAX_CUTS		8
#define MLP_NAME_LEN		32
#define MLP_MAX_STREAMS		4
#define MLP_REJECT_SLOTS	24	/* room for more enum mlp_reject */

/* enum mlp_mode - how far the model is trusted; the order is the ladder. */
enum mlp_mode {
	MLP_MODE_EMERGENCY	= 0,	/* default logic only */
	MLP_MODE_LEARNING	= 1,	/* model on a small share */
	MLP_MODE_COLLABORATION	= 2,	/* model on half */
	MLP_MODE_TRUSTED	= 3,	/* model on all but a hold-out */
};

enum mlp_arm {
	MLP_ARM_DEFAULT		= 0,
	MLP_ARM_MODEL		= 1,
};

enum mlp_kind {
	MLP_KIND_VALUE		= 1,
	MLP_KIND_CHOICE		= 2,
	MLP_KIND_RANK		= 3,
	MLP_KIND_PROGRAM	= 4,
};

enum mlp_trial {
	MLP_TRIAL_PARTITION	= 0,	/* salted hash of the unit id */
	MLP_TRIAL_SWITCHBACK	= 1,	/* whole epochs, at random */
};

/* enum mlp_record_type - what a ring record says. */
enum mlp_record_type {
	MLP_RECORD_SAMPLE	= 1,	/* a decision: features, arm, action */
	MLP_RECORD_OUTCOME	= 2,	/* cost of a trial unit */
	MLP_RECORD_LABEL	= 3,	/* feedback: features + what came out */
	MLP_RECORD_TWIN		= 4,	/* cost of both arms on the twin */
	MLP_RECORD_MODE		= 5,	/* mode change */
};

/* enum mlp_reason - why the mode changed. Never renumbered. */
enum mlp_reason {
	MLP_REASON_NONE			= 0,
	MLP_REASON_START		= 1,
	MLP_REASON_PROMOTED		= 2,	/* test: model better */
	MLP_REASON_DEMOTED		= 3,	/* test: model worse */
	MLP_REASON_NO_GAIN		= 4,	/* gain fell below worth having */
	MLP_REASON_HEARTBEAT		= 5,	/* agent silent or stopped */
	MLP_REASON_AGENT_GONE		= 6,	/* agent closed or died */
	MLP_REASON_REJECTS		= 7,	/* too many bad recommendations */
	MLP_REASON_COST_SPIKE		= 8,	/* fast guard */
	MLP_REASON_BUDGET		= 9,	/* cumulative cost above default */
	MLP_REASON_CRITICAL		= 10,	/* subsystem critical */
	MLP_REASON_OPERATOR		= 11,	/* operator asked */
	MLP_REASON_OPERATOR_OVERRIDE	= 12,	/* somebody else took the value */
	MLP_REASON_COOLDOWN		= 13,	/* left emergency after a pause */
	MLP_REASON_LATCHED		= 14,	/* too many trips: operator needed */
	MLP_REASON_EXPIRED		= 15,	/* no valid recommendation left */
	MLP_REASON_WRITE_FAILED		= 16,	/* a knob did not take a value */
	MLP_REASON_NR			= 17,
};

/* enum mlp_reject - why a recommendation was refused. Never renumbered. */
enum mlp_reject {
	MLP_REJECT_NONE		= 0,
	MLP_REJECT_VERSION	= 1,	/* struct_len or abi_version wrong */
	MLP_REJECT_KIND		= 2,	/* not this proxy's kind */
	MLP_REJECT_RANGE	= 3,	/* value or choice out of range */
	MLP_REJECT_EXPIRED	= 4,	/* expiry already past */
	MLP_REJECT_EXPIRY	= 5,	/* expiry too far in the future */
	MLP_REJECT_REPLAY	= 6,	/* sequence not above the last one */
	MLP_REJECT_CANDIDATE	= 7,	/* rank id outside the candidate set */
	MLP_REJECT_DUPLICATE	= 8,	/* rank id twice */
	MLP_REJECT_SIZE		= 9,	/* length, node, tree or rank count */
	MLP_REJECT_INDEX	= 10,	/* program child or feature index */
	MLP_REJECT_CYCLE	= 11,	/* program child does not lie ahead */
	MLP_REJECT_DEPTH	= 12,	/* program too deep */
	MLP_REJECT_LEAF		= 13,	/* leaf class or confidence out of range */
	MLP_REJECT_RESERVED	= 14,	/* reserved field not zero */
	MLP_REJECT_MODEL	= 15,	/* model id not attached / is barred */
	MLP_REJECT_STATE	= 16,	/* proxy not started */
	MLP_REJECT_NR		= 17,
};

/**
 * struct mlp_record - one ring record, 128 bytes.
 * @seq: sequence number, from 1; 0 while the slot is being written
 * @time: proxy time of the event (the unit is the proxy's own)
 * @unit: trial unit id; MODE: pairs of evidence
 * @cost: OUTCOME/TWIN: cost, fixed point; LABEL: the label, fixed point;
 *	  MODE: lower bound of the saving, parts per million
 * @aux: TWIN: cost of the model's arm (then @cost is the default's);
 *	 LABEL: weight; MODE: evidence (relative saving, parts per million)
 * @model_version: version of the model that acted, 0 for the default
 * @type: enum mlp_record_type
 * @arm: enum mlp_arm
 * @mode: enum mlp_mode at that time (MODE: the new one)
 * @stream: which feature stream of the proxy (0 first); MODE: the old mode
 * @default_action: what the default would do; MODE: enum mlp_reason
 * @action: what was done
 * @flags: 0
 * @nr_features: how many of @features are set
 * @features: quantised features; MODE: the rest of the evidence: upper bound
 *	      of the saving (ppm), scored outcomes of the default and of the
 *	      model (all saturated), then as low and high 32 bits the default's
 *	      mean, the model's mean, and the regret
 */
struct mlp_record {
	__u64 seq;
	__u64 time;
	__u64 unit;
	__s64 cost;
	__s64 aux;
	__u32 model_version;
	__u8 type;
	__u8 arm;
	__u8 mode;
	__u8 stream;
	__s32 default_action;
	__s32 action;
	__u32 flags;
	__u32 nr_features;
	__s32 features[MLP_MAX_FEATURES];
};

/**
 * struct mlp_ring_meta - the page before the ring.
 * @magic: MLP_MAGIC
 * @abi_version: MLP_ABI_VERSION
 * @struct_len: sizeof(struct mlp_ring_meta)
 * @record_size: sizeof(struct mlp_record)
 * @capacity: records in the ring, a power of two
 * @flags: 0
 * @head: records ever published; the newest has seq == head (release store)
 * @tail: records ever consumed, as told by the agent (not by writing here)
 * @lost: records overwritten before they were consumed
 * @mode: current mode
 * @mode_seq: mode changes so far
 * @reserved: zero
 */
struct mlp_ring_meta {
	__u32 magic;
	__u16 abi_version;
	__u16 struct_len;
	__u32 record_size;
	__u32 capacity;
	__u64 flags;
	__u64 head;
	__u64 tail;
	__u64 lost;
	__u32 mode;
	__u32 mode_seq;
	__u64 reserved[8];
};

/**
 * struct mlp_node - one node of a program, 16 bytes.
 * @feature: index of the feature to compare; MLP_LEAF for a leaf
 * @left: inner node: index of the child taken when feature <= threshold;
 *	  must be greater than this node's own index (so: acyclic); leaf: 0
 * @right: inner node: index of the child taken otherwise, likewise; leaf: 0
 * @confidence: leaf: 0..1000; inner node: 0
 * @value: inner node: the threshold; leaf: the result (an action, or a
 *	   fixed-point number: with several trees the leaves' values are summed)
 * @reserved: 0
 */
struct mlp_node {
	__u16 feature;
	__u16 left;
	__u16 right;
	__u16 confidence;
	__s32 value;
	__u32 reserved;
};

#define MLP_LEAF	0xffff

/**
 * struct mlp_program - header of a program; @nr_nodes nodes follow it.
 * @nr_nodes: nodes of all trees together
 * @nr_trees: trees
 * @nr_features: features the program may read
 * @nr_cuts: 0: the (summed) leaf value is the action; else the action is the
 *	     number of cuts that the sum exceeds
 * @stream: feature stream this program is for
 * @reserved: 0
 * @root: index of the root node of each tree
 * @cuts: strictly ascending, then zeros
 */
struct mlp_program {
	__u32 nr_nodes;
	__u16 nr_trees;
	__u16 nr_features;
	__u16 nr_cuts;
	__u16 stream;
	__u32 reserved;
	__u16 root[MLP_MAX_TREES];
	__s32 cuts[MLP_MAX_CUTS];
};

/**
 * struct mlp_recommendation - header of what the agent submits.
 * @struct_len: sizeof(struct mlp_recommendation)
 * @abi_version: MLP_ABI_VERSION
 * @kind: enum mlp_kind
 * @length: whole length in bytes, header and payload
 * @seq: strictly rising
 * @expiry: proxy time after which it no longer counts
 * @model_id: which model
 * @model_version: which version of it
 * @confidence: 0..1000
 * @nr: RANK: how many u64 ids follow; else 0
 * @value: VALUE or CHOICE: the value
 * @reserved: 0
 */
struct mlp_recommendation {
	__u16 struct_len;
	__u16 abi_version;
	__u32 kind;
	__u32 length;
	__u32 model_id;
	__u64 seq;
	__u64 expiry;
	__u32 model_version;
	__u16 confidence;
	__u16 nr;
	__s64 value;
	__u64 reserved[2];
};

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
	__u64 rejected[MLP_REJECT_SLOTS];	/* by enum mlp_reject */
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
	__u64 reserved[4];
};

#endif /* _UAPI_MLPROXY_H */
