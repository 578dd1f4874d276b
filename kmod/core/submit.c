// SPDX-License-Identifier: GPL-2.0-only
/*
 * Recommendations in: checked against the decision's invariants, copied into
 * the slot that does not act, then published by flipping the stream's index.
 *
 * The bytes are copied before they are checked, so a writer that changes them
 * meanwhile gains nothing. Checking takes long and touches only the slot that
 * does not act, so it may run beside decisions; committing is short and may
 * not. Before the *next* check reuses the slot that acted, every decision begun
 * before the flip must be over: in a process one thread owns the proxy; in the
 * kernel submits are serialised by a mutex, and decisions and commits by the
 * proxy's spinlock.
 */
#include "internal.h"

void mlp_count_reject(struct mlp_proxy *p, __u32 why, __u64 now)
{
	p->rejected[why]++;
	if (!mlp_live(p->state) || !p->cfg.reject_limit)
		return;
	/* Without a window: since the mode change. */
	if (p->cfg.reject_window &&
	    mlp_usub(now, p->reject_start) > p->cfg.reject_window)
		p->reject_count = 0;
	if (!p->reject_count)
		p->reject_start = now;
	if (++p->reject_count > p->cfg.reject_limit)
		mlp_event(p, MLP_EVENT_REJECTS, MLP_REASON_REJECTS, now);
}

static int check_header(const struct mlp_proxy *p, const struct mlp_recommendation *r,
			__u64 len, __u64 now)
{
	if (r->struct_len != sizeof(*r) || r->abi_version != MLP_ABI_VERSION)
		return MLP_REJECT_VERSION;
	if (p->state == MLP_STATE_STOPPED)
		return MLP_REJECT_STATE;
	if (r->kind != p->kind)
		return MLP_REJECT_KIND;
	if (r->length != len)
		return MLP_REJECT_SIZE;
	if (r->reserved[0] || r->reserved[1])
		return MLP_REJECT_RESERVED;
	if (!r->model_version)
		return MLP_REJECT_MODEL;
	if (r->seq <= p->last_seq)
		return MLP_REJECT_REPLAY;
	if (r->expiry < now)
		return MLP_REJECT_EXPIRED;
	if (r->expiry - now > p->cfg.max_expiry)
		return MLP_REJECT_EXPIRY;
	if (r->confidence > 1000)
		return MLP_REJECT_RANGE;
	if (r->kind != MLP_KIND_RANK && r->nr)
		return MLP_REJECT_RESERVED;
	if ((r->kind == MLP_KIND_RANK || r->kind == MLP_KIND_PROGRAM) && r->value)
		return MLP_REJECT_RESERVED;
	return 0;
}

static int take_value(const struct mlp_proxy *p, const struct mlp_recommendation *r)
{
	if (r->length != sizeof(*r))
		return MLP_REJECT_SIZE;
	if (r->value < p->cfg.min || r->value > p->cfg.max)
		return MLP_REJECT_RANGE;
	return 0;
}

static int take_rank(const struct mlp_proxy *p, const struct mlp_recommendation *r,
		     const char *body, __u64 *ids)
{
	__u32 i, j;

	if (!r->nr || r->nr > MLP_MAX_RANK || r->length != sizeof(*r) + r->nr * sizeof(*ids))
		return MLP_REJECT_SIZE;
	memcpy(ids, body, r->nr * sizeof(*ids));
	for (i = 0; i < r->nr; i++) {
		if (ids[i] < (__u64)p->cfg.min || ids[i] > (__u64)p->cfg.max)
			return MLP_REJECT_CANDIDATE;
		for (j = 0; j < i; j++)
			if (ids[i] == ids[j])
				return MLP_REJECT_DUPLICATE;
	}
	return 0;
}

static int take_program(const struct mlp_proxy *p, const struct mlp_recommendation *r,
			const char *body, __u32 *stream)
{
	__u64 len = r->length - sizeof(*r);
	struct mlp_program header;
	void *copy;

	if (len < sizeof(header) || len > p->slot_bytes)
		return MLP_REJECT_SIZE;
	memcpy(&header, body, sizeof(header));
	if (header.stream >= p->nr_streams)
		return MLP_REJECT_INDEX;
	*stream = mlp_index(header.stream, MLP_MAX_STREAMS);
	copy = mlp_slot_memory(p, *stream, !p->active[*stream]);
	memcpy(copy, body, len);
	/* The copy is what counts: its stream may have changed under us. */
	if (((struct mlp_program *)copy)->stream != *stream)
		return MLP_REJECT_INDEX;
	return -mlp_program_check(copy, len, &p->cfg);
}

int mlp_submit_check(struct mlp_proxy *p, const void *rec, __u64 len, __u64 now,
		     struct mlp_submission *out)
{
	const char *body = (const char *)rec + sizeof(struct mlp_recommendation);
	struct mlp_recommendation *r = &out->header;
	int why;

	out->stream = 0;
	if (len < sizeof(*r))
		return MLP_REJECT_SIZE;
	memcpy(r, rec, sizeof(*r));
	why = check_header(p, r, len, now);
	if (why)
		return why;
	if (p->kind == MLP_KIND_PROGRAM)
		return take_program(p, r, body, &out->stream);
	if (p->kind == MLP_KIND_RANK)
		return take_rank(p, r, body, mlp_slot_memory(p, 0, !p->active[0]));
	return take_value(p, r);
}

void mlp_submit_commit(struct mlp_proxy *p, const struct mlp_submission *s)
{
	const struct mlp_recommendation *r = &s->header;
	__u32 other = !p->active[s->stream];
	struct mlp_slot *slot = &p->slot[s->stream][other];

	slot->expiry = r->expiry;
	slot->model_version = r->model_version;
	slot->confidence = r->confidence;
	slot->value = r->value;
	slot->nr = r->nr;
	slot->valid = 1;
	mlp_store_release(&p->active[s->stream], other);
	p->last_seq = r->seq;
	p->model_id = r->model_id;
	p->model_version = r->model_version;
	p->accepted++;
}

int mlp_submit(struct mlp_proxy *p, const void *rec, __u64 len, __u64 now)
{
	struct mlp_submission submission;
	int why = mlp_submit_check(p, rec, len, now, &submission);

	if (why)
		mlp_count_reject(p, (__u32)why, now);
	else
		mlp_submit_commit(p, &submission);
	return -why;
}
