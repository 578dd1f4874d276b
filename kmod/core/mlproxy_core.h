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
/* Whether the stream has a recommendation that acts now. */
__u32 mlp_valid(const struct mlp_proxy *p, __u32 stream, __u64 now);

/*
 * A walker evaluates in place of the submitted program, whose version and
 * expiry still count. It returns 0 and an action, or an error: the default acts.
 * Setting one (NULL: none) voids what was submitted before.
 */
typedef int (*mlp_walk_fn)(void *context, __u32 stream, const __s32 *features,
			   __s32 default_action, __s32 *action, __u32 *confidence);
void mlp_set_walker(struct mlp_proxy *p, mlp_walk_fn walk, void *context);
void mlp_void(struct mlp_proxy *p);	/* no recommendation is valid any more */

/* Agent and operator. */
int mlp_submit(struct mlp_proxy *p, const void *rec, __u64 len, __u64 now);
	/* 0 or -(enum mlp_reject) */
/*
 * The two halves of a submit, for callers that must not check under a lock.
 * mlp_submit_check() returns enum mlp_reject and writes only to the slot that
 * does not act; a reject is the caller's to count.
 */
struct mlp_submission {
	struct mlp_recommendation header;
	__u32 stream;
};
int mlp_submit_check(struct mlp_proxy *p, const void *rec, __u64 len, __u64 now,
		     struct mlp_submission *out);
void mlp_submit_commit(struct mlp_proxy *p, const struct mlp_submission *submission);
void mlp_count_reject(struct mlp_proxy *p, __u32 why, __u64 now);
void mlp_heartbeat(struct mlp_proxy *p, __u64 now);
void mlp_silent(struct mlp_proxy *p, int on, __u64 now);	/* agent silent by another clock */
void mlp_tick(struct mlp_proxy *p, __u64 now);
int mlp_consume(struct mlp_proxy *p, __u64 upto);	/* records up to seq are read */
void mlp_critical(struct mlp_proxy *p, int on, __u64 now);
int mlp_set_mode(struct mlp_proxy *p, __u32 mode, __u32 reason, __u64 now);
void mlp_operator(struct mlp_proxy *p, int emergency, __u64 now); /* off clears the latch */
/* Somebody else has changed what the proxy writes: as if an operator had asked. */
void mlp_override(struct mlp_proxy *p, __u64 now);
void mlp_snapshot(const struct mlp_proxy *p, struct mlp_snapshot *out, __u64 now);

/* The mode machine's table, for tests and documents. */
void mlp_mode_cell(__u32 state, __u32 event, struct mlp_cell *out);

/* A program by itself, for twins and tests: validated, then evaluated. */
/* @cfg may be NULL: then only what every proxy demands is checked. */
int mlp_program_check(const void *program, __u64 len, const struct mlp_config *cfg);
__s32 mlp_program_eval(const void *program, const __s32 *features, __u32 *confidence);

#endif /* MLPROXY_CORE_H */
