// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mode machine. The table says everything; three rules stand beside it:
 * - "gated" without cfg.twin_gate is "learning";
 * - while a hold (operator, critical, latch) is on, a target above emergency
 *   becomes emergency, and mlp_set_mode() to such a target is refused;
 * - a trip that reaches cfg.trip_limit is followed by the event "latch".
 */
#include "internal.h"

#define GUARD	(MLP_DO_TRIP | MLP_DO_BACKOFF | MLP_DO_COOLDOWN)
#define TO(state, does)		{ MLP_STATE_##state, does }

/* Columns: stopped, emergency, gated, learning, collaboration, trusted. */
static const struct mlp_cell table[MLP_EVENT_NR][MLP_STATE_NR] = {
	[MLP_EVENT_START] = {
		TO(GATED, 0), TO(EMERGENCY, MLP_DO_REFUSE),
		TO(GATED, MLP_DO_REFUSE), TO(LEARNING, MLP_DO_REFUSE),
		TO(COLLABORATION, MLP_DO_REFUSE), TO(TRUSTED, MLP_DO_REFUSE),
	},
	[MLP_EVENT_STOP] = {
		TO(STOPPED, 0), TO(STOPPED, 0), TO(STOPPED, 0),
		TO(STOPPED, 0), TO(STOPPED, 0), TO(STOPPED, 0),
	},
	[MLP_EVENT_PROMOTE] = {
		TO(STOPPED, 0), TO(EMERGENCY, 0), TO(LEARNING, 0),
		TO(COLLABORATION, 0), TO(TRUSTED, 0), TO(TRUSTED, 0),
	},
	[MLP_EVENT_DEMOTE] = {
		TO(STOPPED, 0), TO(EMERGENCY, 0), TO(GATED, MLP_DO_FORGET),
		TO(EMERGENCY, MLP_DO_BACKOFF | MLP_DO_COOLDOWN),
		TO(GATED, 0), TO(GATED, 0),
	},
	[MLP_EVENT_NO_GAIN] = {
		TO(STOPPED, 0), TO(EMERGENCY, 0), TO(GATED, 0), TO(LEARNING, 0),
		TO(GATED, 0), TO(GATED, 0),
	},
	[MLP_EVENT_HEARTBEAT] = {
		TO(STOPPED, 0), TO(EMERGENCY, 0), TO(EMERGENCY, GUARD),
		TO(EMERGENCY, GUARD), TO(EMERGENCY, GUARD), TO(EMERGENCY, GUARD),
	},
	[MLP_EVENT_REJECTS] = {
		TO(STOPPED, 0), TO(EMERGENCY, 0), TO(EMERGENCY, GUARD),
		TO(EMERGENCY, GUARD), TO(EMERGENCY, GUARD), TO(EMERGENCY, GUARD),
	},
	[MLP_EVENT_SPIKE] = {	/* gated: no real operation was touched */
		TO(STOPPED, 0), TO(EMERGENCY, 0), TO(GATED, 0),
		TO(EMERGENCY, GUARD), TO(EMERGENCY, GUARD), TO(EMERGENCY, GUARD),
	},
	[MLP_EVENT_BUDGET] = {
		TO(STOPPED, 0), TO(EMERGENCY, 0), TO(GATED, 0),
		TO(EMERGENCY, GUARD), TO(EMERGENCY, GUARD), TO(EMERGENCY, GUARD),
	},
	[MLP_EVENT_CRITICAL_ON] = {
		TO(STOPPED, 0), TO(EMERGENCY, 0), TO(EMERGENCY, MLP_DO_COOLDOWN),
		TO(EMERGENCY, MLP_DO_COOLDOWN), TO(EMERGENCY, MLP_DO_COOLDOWN),
		TO(EMERGENCY, MLP_DO_COOLDOWN),
	},
	[MLP_EVENT_CRITICAL_OFF] = {
		TO(STOPPED, 0), TO(EMERGENCY, MLP_DO_COOLDOWN), TO(GATED, 0),
		TO(LEARNING, 0), TO(COLLABORATION, 0), TO(TRUSTED, 0),
	},
	[MLP_EVENT_OPERATOR_ON] = {
		TO(STOPPED, 0), TO(EMERGENCY, 0), TO(EMERGENCY, MLP_DO_COOLDOWN),
		TO(EMERGENCY, MLP_DO_COOLDOWN), TO(EMERGENCY, MLP_DO_COOLDOWN),
		TO(EMERGENCY, MLP_DO_COOLDOWN),
	},
	[MLP_EVENT_OPERATOR_OFF] = {
		TO(STOPPED, 0), TO(EMERGENCY, MLP_DO_COOLDOWN), TO(GATED, 0),
		TO(LEARNING, 0), TO(COLLABORATION, 0), TO(TRUSTED, 0),
	},
	[MLP_EVENT_COOLDOWN_OVER] = {
		TO(STOPPED, 0), TO(GATED, 0), TO(GATED, 0),
		TO(LEARNING, 0), TO(COLLABORATION, 0), TO(TRUSTED, 0),
	},
	[MLP_EVENT_LATCH] = {
		TO(STOPPED, 0), TO(EMERGENCY, 0), TO(GATED, 0),
		TO(LEARNING, 0), TO(COLLABORATION, 0), TO(TRUSTED, 0),
	},
	[MLP_EVENT_SET_EMERGENCY] = {
		TO(STOPPED, MLP_DO_REFUSE), TO(EMERGENCY, MLP_DO_COOLDOWN),
		TO(EMERGENCY, MLP_DO_COOLDOWN), TO(EMERGENCY, MLP_DO_COOLDOWN),
		TO(EMERGENCY, MLP_DO_COOLDOWN), TO(EMERGENCY, MLP_DO_COOLDOWN),
	},
	[MLP_EVENT_SET_LEARNING] = {
		TO(STOPPED, MLP_DO_REFUSE), TO(GATED, 0), TO(GATED, 0),
		TO(LEARNING, 0), TO(GATED, 0), TO(GATED, 0),
	},
	[MLP_EVENT_SET_COLLABORATION] = {
		TO(STOPPED, MLP_DO_REFUSE), TO(COLLABORATION, 0),
		TO(COLLABORATION, 0), TO(COLLABORATION, 0),
		TO(COLLABORATION, 0), TO(COLLABORATION, 0),
	},
	[MLP_EVENT_SET_TRUSTED] = {
		TO(STOPPED, MLP_DO_REFUSE), TO(TRUSTED, 0), TO(TRUSTED, 0),
		TO(TRUSTED, 0), TO(TRUSTED, 0), TO(TRUSTED, 0),
	},
};

void mlp_mode_cell(__u32 state, __u32 event, struct mlp_cell *out)
{
	memset(out, 0, sizeof(*out));
	out->flags = MLP_DO_REFUSE;
	if (state < MLP_STATE_NR && event < MLP_EVENT_NR)
		*out = table[event][state];
}

__u32 mlp_mode_of(const struct mlp_proxy *p)
{
	static const __u8 mode[MLP_STATE_NR] = {
		[MLP_STATE_STOPPED]		= MLP_MODE_EMERGENCY,
		[MLP_STATE_EMERGENCY]		= MLP_MODE_EMERGENCY,
		[MLP_STATE_GATED]		= MLP_MODE_LEARNING,
		[MLP_STATE_LEARNING]		= MLP_MODE_LEARNING,
		[MLP_STATE_COLLABORATION]	= MLP_MODE_COLLABORATION,
		[MLP_STATE_TRUSTED]		= MLP_MODE_TRUSTED,
	};

	return mode[p->state];
}

static __u32 share_of(const struct mlp_proxy *p)
{
	switch (p->state) {
	case MLP_STATE_LEARNING:
		return p->cfg.share_learning;
	case MLP_STATE_COLLABORATION:
		return p->cfg.share_collaboration;
	case MLP_STATE_TRUSTED:
		return p->cfg.share_trusted;
	default:
		return 0;
	}
}

#define MLP_MODE_FEATURES	9	/* evidence in a MODE record's features */

static __s32 saturated(__s64 value)
{
	if (value > 0x7fffffff)
		return 0x7fffffff;
	return value < -0x7fffffff ? -0x7fffffff : (__s32)value;
}

static void put64(__s32 *halves, __s64 value)
{
	halves[0] = (__s32)(__u32)(__u64)value;
	halves[1] = (__s32)(__u32)((__u64)value >> 32);
}

static void publish_mode(struct mlp_proxy *p, __u32 old, __u32 reason, __u64 now)
{
	struct mlp_evidence evidence;
	struct mlp_record rec;

	mlp_evidence_of(p, p->cfg.twin_gate ? &p->twin_court : &p->trial_court, &evidence);
	memset(&rec, 0, sizeof(rec));
	rec.time = now;
	rec.type = MLP_RECORD_MODE;
	rec.mode = (__u8)mlp_mode_of(p);
	rec.stream = (__u8)old;
	rec.default_action = (__s32)reason;
	rec.action = (__s32)p->state;
	rec.model_version = p->model_version;
	rec.unit = evidence.pairs;
	rec.cost = evidence.lower_ppm;
	rec.aux = evidence.saving_ppm;
	rec.nr_features = MLP_MODE_FEATURES;
	rec.features[0] = saturated(evidence.upper_ppm);
	rec.features[1] = saturated((__s64)(evidence.arm[MLP_ARM_DEFAULT].count & (~0ULL >> 1)));
	rec.features[2] = saturated((__s64)(evidence.arm[MLP_ARM_MODEL].count & (~0ULL >> 1)));
	put64(&rec.features[3], evidence.arm[MLP_ARM_DEFAULT].mean);
	put64(&rec.features[5], evidence.arm[MLP_ARM_MODEL].mean);
	put64(&rec.features[7], evidence.regret);
	mlp_publish(p, &rec);
}

/* A new try at promotion may spend less of the false-promotion rate. */
static void count_attempt(struct mlp_proxy *p)
{
	if (p->attempts < 30000)
		p->attempts++;
}

static void enter(struct mlp_proxy *p, __u32 state, __u32 reason, __u64 now)
{
	__u32 old = mlp_mode_of(p), from = p->state;

	p->mode_time[old] += mlp_usub(now, p->state_since);
	p->state = state;
	p->state_since = now;
	p->reason = reason;
	p->trusted_pairs = 0;
	p->mode_seq++;
	if (mlp_mode_of(p) != old)
		p->mode_since = now;
	mlp_store(&p->share, share_of(p));
	if (p->meta) {
		mlp_store(&p->meta->mode, mlp_mode_of(p));
		mlp_store(&p->meta->mode_seq, p->mode_seq);
	}
	publish_mode(p, old, reason, now);
	if ((state == MLP_STATE_GATED || state == MLP_STATE_LEARNING) &&
	    from != MLP_STATE_GATED && from != MLP_STATE_STOPPED)
		count_attempt(p);
	/*
	 * The twins run both policies on the same share of the stream whatever
	 * real operations the model has: their comparison goes on as it climbs.
	 */
	if (p->cfg.twin_gate && from >= MLP_STATE_GATED && state > from)
		mlp_trial_reset(p);
	else
		mlp_evidence_reset(p);
}

static void start_cooldown(struct mlp_proxy *p, __u64 now)
{
	__u32 doublings = p->backoff > 1 ? p->backoff - 1 : 0;
	__u64 pause = mlp_umul(p->cfg.cooldown, 1ULL << doublings);

	if (pause > p->cfg.cooldown_max)
		pause = p->cfg.cooldown_max;
	p->cooldown_until = mlp_uadd(now, pause);
}

static void set_holds(struct mlp_proxy *p, __u32 event)
{
	switch (event) {
	case MLP_EVENT_CRITICAL_ON:
		p->holds |= MLP_HOLD_CRITICAL;
		break;
	case MLP_EVENT_CRITICAL_OFF:
		p->holds &= ~(__u32)MLP_HOLD_CRITICAL;
		break;
	case MLP_EVENT_OPERATOR_ON:
		p->holds |= MLP_HOLD_OPERATOR;
		break;
	case MLP_EVENT_OPERATOR_OFF:
		p->holds &= ~(__u32)(MLP_HOLD_OPERATOR | MLP_HOLD_LATCH);
		p->trips = 0;
		p->backoff = 0;
		break;
	case MLP_EVENT_LATCH:
		if (p->state == MLP_STATE_EMERGENCY)
			p->holds |= MLP_HOLD_LATCH;
		break;
	}
}

static __u32 hold_reason(const struct mlp_proxy *p)
{
	if (p->holds & MLP_HOLD_OPERATOR)
		return MLP_REASON_OPERATOR;
	return p->holds & MLP_HOLD_LATCH ? MLP_REASON_LATCHED : MLP_REASON_CRITICAL;
}

int mlp_event(struct mlp_proxy *p, __u32 event, __u32 reason, __u64 now)
{
	struct mlp_cell cell = table[event][p->state];
	__u32 next = cell.next;

	if (cell.flags & MLP_DO_REFUSE)
		return -EBUSY;
	if (event >= MLP_EVENT_SET_LEARNING && p->holds)
		return -EBUSY;
	set_holds(p, event);
	if (next == MLP_STATE_GATED && !p->cfg.twin_gate)
		next = MLP_STATE_LEARNING;
	if (next != p->state && mlp_live(next) && p->holds) {
		next = MLP_STATE_EMERGENCY;
		reason = hold_reason(p);
	}
	if (cell.flags & MLP_DO_TRIP)
		p->trips++;
	if (cell.flags & MLP_DO_BACKOFF && p->backoff < MLP_MAX_BACKOFF)
		p->backoff++;
	if (cell.flags & MLP_DO_COOLDOWN)
		start_cooldown(p, now);
	if (cell.flags & MLP_DO_FORGET) {
		count_attempt(p);
		mlp_evidence_reset(p);
	}
	if (next != p->state ||
	    (event == MLP_EVENT_LATCH && next == MLP_STATE_EMERGENCY))
		enter(p, next, reason, now);
	if (cell.flags & MLP_DO_TRIP && p->cfg.trip_limit &&
	    p->trips >= p->cfg.trip_limit)
		return mlp_event(p, MLP_EVENT_LATCH, MLP_REASON_LATCHED, now);
	return 0;
}
