// SPDX-License-Identifier: GPL-2.0-only
/* Life cycle: configuration, start, stop, tick, heartbeat, snapshot. */
#include "internal.h"

static int refuse(const char **bad, const char *field)
{
	if (bad)
		*bad = field;
	return -EINVAL;
}

static int check_kind(const struct mlp_config *c, const char **bad)
{
	__s64 least = -0x7fffffffLL - 1, most = 0x7fffffffLL;

	if (c->kind == MLP_KIND_RANK) {
		least = 0;
		most = MLP_S64_MAX;
	}
	if (c->kind == MLP_KIND_CHOICE) {
		if (c->min)
			return refuse(bad, "min");
		if (c->max >= MLP_MAX_CHOICES)
			return refuse(bad, "max");
	}
	if (c->min < least || c->min > most)
		return refuse(bad, "min");
	if (c->max < c->min || c->max > most)
		return refuse(bad, "max");
	if (c->kind == MLP_KIND_PROGRAM && !c->nr_features)
		return refuse(bad, "nr_features");
	if (c->kind == MLP_KIND_PROGRAM && !c->max_nodes)
		return refuse(bad, "max_nodes");
	if (c->kind == MLP_KIND_RANK && c->nr_streams > 1)
		return refuse(bad, "nr_streams");
	return 0;
}

int mlp_config_check(const struct mlp_config *c, const char **bad)
{
	__u32 i, end = 0;

	for (i = 0; i < MLP_NAME_LEN; i++)
		end |= !c->name[i];
	if (!end || !c->name[0])
		return refuse(bad, "name");
	if (c->kind < MLP_KIND_VALUE || c->kind > MLP_KIND_PROGRAM)
		return refuse(bad, "kind");
	if (c->trial > MLP_TRIAL_SWITCHBACK)
		return refuse(bad, "trial");
	if (c->nr_features > MLP_MAX_FEATURES)
		return refuse(bad, "nr_features");
	if (c->nr_streams < 1 || c->nr_streams > MLP_MAX_STREAMS)
		return refuse(bad, "nr_streams");
	if (c->max_nodes > MLP_MAX_NODES)
		return refuse(bad, "max_nodes");
	if (check_kind(c, bad))
		return -EINVAL;
	if (!c->share_learning || c->share_learning > MLP_PPM)
		return refuse(bad, "share_learning");
	if (c->share_collaboration < c->share_learning ||
	    c->share_collaboration > MLP_PPM)
		return refuse(bad, "share_collaboration");
	if (c->share_trusted < c->share_collaboration ||
	    c->share_trusted > MLP_PPM)
		return refuse(bad, "share_trusted");
	if (c->trial == MLP_TRIAL_SWITCHBACK && !c->epoch)
		return refuse(bad, "epoch");
	if (c->epoch_settle >= MLP_PPM)
		return refuse(bad, "epoch_settle");
	if (c->twin_gate > 1)
		return refuse(bad, "twin_gate");
	if (!c->alpha || c->alpha >= MLP_PPM)
		return refuse(bad, "alpha");
	if (!c->alpha_demote || c->alpha_demote >= MLP_PPM)
		return refuse(bad, "alpha_demote");
	if (c->min_effect >= MLP_PPM)
		return refuse(bad, "min_effect");
	if (c->min_count < 2 || c->min_count > MLP_FIRST_HORIZON)
		return refuse(bad, "min_count");
	if (!c->max_expiry)
		return refuse(bad, "max_expiry");
	if (c->budget < 0)
		return refuse(bad, "budget");
	if (c->cooldown_max < c->cooldown)
		return refuse(bad, "cooldown_max");
	if (c->noise_levels > MLP_LEVELS)
		return refuse(bad, "noise_levels");
	for (i = 0; i < 4; i++)
		if (c->reserved[i])
			return refuse(bad, "reserved");
	return 0;
}

__u64 mlp_proxy_size(void)
{
	return sizeof(struct mlp_proxy);
}

static __u64 slot_bytes(const struct mlp_config *cfg)
{
	if (cfg->kind == MLP_KIND_RANK)
		return MLP_MAX_RANK * sizeof(__u64);
	if (cfg->kind == MLP_KIND_PROGRAM)
		return sizeof(struct mlp_program) +
		       (__u64)cfg->max_nodes * sizeof(struct mlp_node);
	return 0;
}

__u64 mlp_slots_size(const struct mlp_config *cfg)
{
	return 2 * cfg->nr_streams * slot_bytes(cfg);
}

int mlp_init(struct mlp_proxy *p, const struct mlp_config *cfg, void *slots,
	     void *ring, __u32 capacity, __u64 now)
{
	const char *bad;

	if (mlp_config_check(cfg, &bad))
		return -EINVAL;
	if (ring && (!capacity || capacity & (capacity - 1)))
		return -EINVAL;
	if (!slots && mlp_slots_size(cfg))
		return -EINVAL;
	memset(p, 0, sizeof(*p));
	p->cfg = *cfg;
	p->kind = cfg->kind;
	p->trial = cfg->trial;
	p->nr_streams = cfg->nr_streams;
	p->salt = mlp_hash(cfg->seed);
	p->epoch = cfg->epoch;
	p->sample_every = cfg->sample_every;
	p->sample_left = cfg->sample_every;
	p->slots = slots;
	p->slot_bytes = slot_bytes(cfg);
	p->state = MLP_STATE_STOPPED;
	p->state_since = now;
	p->mode_since = now;
	if (ring)
		mlp_ring_init(p, ring, capacity);
	mlp_evidence_reset(p);
	return 0;
}

int mlp_start(struct mlp_proxy *p, __u64 now)
{
	if (p->state != MLP_STATE_STOPPED)
		return -EBUSY;
	/* A new agent counts its recommendations from the beginning. */
	mlp_void(p);
	p->silent = 0;
	p->last_seq = 0;
	p->model_id = 0;
	p->model_version = 0;
	p->last_heartbeat = now;
	p->attempts = 0;
	return mlp_event(p, MLP_EVENT_START, MLP_REASON_START, now);
}

void mlp_void(struct mlp_proxy *p)
{
	memset(p->slot, 0, sizeof(p->slot));
}

void mlp_set_walker(struct mlp_proxy *p, mlp_walk_fn walk, void *context)
{
	p->walk = walk;
	p->walk_context = context;
	mlp_void(p);
}

int mlp_stop(struct mlp_proxy *p, __u64 now, __u32 reason)
{
	return mlp_event(p, MLP_EVENT_STOP, reason, now);
}

void mlp_heartbeat(struct mlp_proxy *p, __u64 now)
{
	if (now > p->last_heartbeat)
		p->last_heartbeat = now;
}

/* The proxy's clock need not be the wall's: whoever watches that one says so. */
void mlp_silent(struct mlp_proxy *p, int on, __u64 now)
{
	p->silent = !!on;
	if (on && mlp_live(p->state))
		mlp_event(p, MLP_EVENT_HEARTBEAT, MLP_REASON_HEARTBEAT, now);
}

static int silent(const struct mlp_proxy *p, __u64 now)
{
	if (p->silent)
		return 1;
	return p->cfg.heartbeat_limit &&
	       mlp_usub(now, p->last_heartbeat) > p->cfg.heartbeat_limit;
}

void mlp_tick(struct mlp_proxy *p, __u64 now)
{
	if (mlp_live(p->state)) {
		if (silent(p, now))
			mlp_event(p, MLP_EVENT_HEARTBEAT, MLP_REASON_HEARTBEAT, now);
	} else if (p->state == MLP_STATE_EMERGENCY && !p->holds &&
		   now >= p->cooldown_until && !silent(p, now)) {
		mlp_event(p, MLP_EVENT_COOLDOWN_OVER, MLP_REASON_COOLDOWN, now);
	}
}

void mlp_critical(struct mlp_proxy *p, int on, __u64 now)
{
	if (!on == !(p->holds & MLP_HOLD_CRITICAL))
		return;
	mlp_event(p, on ? MLP_EVENT_CRITICAL_ON : MLP_EVENT_CRITICAL_OFF,
		  MLP_REASON_CRITICAL, now);
}

void mlp_operator(struct mlp_proxy *p, int emergency, __u64 now)
{
	mlp_event(p, emergency ? MLP_EVENT_OPERATOR_ON : MLP_EVENT_OPERATOR_OFF,
		  MLP_REASON_OPERATOR, now);
}

void mlp_override(struct mlp_proxy *p, __u64 now)
{
	mlp_event(p, MLP_EVENT_OPERATOR_ON, MLP_REASON_OPERATOR_OVERRIDE, now);
}

int mlp_set_mode(struct mlp_proxy *p, __u32 mode, __u32 reason, __u64 now)
{
	if (mode > MLP_MODE_TRUSTED || reason >= MLP_REASON_NR)
		return -EINVAL;
	mode = mlp_index(mode, MLP_MODE_TRUSTED + 1);
	return mlp_event(p, MLP_EVENT_SET_EMERGENCY + mode, reason, now);
}

void mlp_snapshot(const struct mlp_proxy *p, struct mlp_snapshot *out, __u64 now)
{
	memset(out, 0, sizeof(*out));
	out->now = now;
	out->mode = mlp_mode_of(p);
	out->reason = p->reason;
	out->mode_since = p->mode_since;
	out->mode_seq = p->mode_seq;
	out->latched = !!(p->holds & MLP_HOLD_LATCH);
	out->operator_hold = !!(p->holds & MLP_HOLD_OPERATOR);
	out->trips = p->trips;
	out->state = p->state;
	out->attempts = p->attempts;
	memcpy(out->mode_time, p->mode_time, sizeof(out->mode_time));
	out->mode_time[out->mode] += mlp_usub(now, p->state_since);
	memcpy(out->decisions, p->decisions, sizeof(out->decisions));
	out->fallbacks = p->fallbacks;
	out->accepted = p->accepted;
	memcpy(out->rejected, p->rejected, sizeof(p->rejected));
	out->last_heartbeat = p->last_heartbeat;
	out->last_seq = p->last_seq;
	out->model_id = p->model_id;
	out->model_version = p->model_version;
	mlp_evidence_of(p, &p->trial_court, &out->trial);
	mlp_evidence_of(p, &p->twin_court, &out->twin);
	if (p->meta) {
		out->ring_head = p->meta->head;
		out->ring_lost = p->meta->lost;
	}
	out->budget_used = p->budget_used;
	out->cooldown_until = p->cooldown_until;
}
