/* SPDX-License-Identifier: GPL-2.0-only */
/* Inputs for the fuzzer: valid ones, and what spoils them. */
#ifndef TESTS_VM_INPUTS_H
#define TESTS_VM_INPUTS_H

#include <string.h>
#include "mlproxy_ioctl.h"

#define NAMES		16	/* some files want the same */
#define BODY		(sizeof(struct mlp_recommendation) + sizeof(struct mlp_program) + \
			 MLP_MAX_NODES * sizeof(struct mlp_node))

/* One thread's random numbers (splitmix64). */
static __thread __u64 rng;

static __u64 draw(void)
{
	__u64 v = rng += 0x9e3779b97f4a7c15ULL;

	v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9ULL;
	v = (v ^ (v >> 27)) * 0x94d049bb133111ebULL;
	return v ^ (v >> 31);
}

static __u64 below(__u64 n)
{
	return n ? draw() % n : 0;
}

static int once_in(__u64 n)
{
	return !below(n);
}

static __u64 boundary(void)
{
	static const __u64 values[] = {
		0, 1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 65, 255, 1000, 1001, 1024, 1025, 4095, 4096,
		999999, 1000000, 1000001, 0x7fff, 0xffff, 0x10000, 0x100000, 0x100001,
		0x7fffffff, 0x80000000, 0xffffffff, 0x100000000ULL, 1ULL << 45, 1ULL << 62,
		0x7fffffffffffffffULL, 0x8000000000000000ULL, ~0ULL, ~0ULL - 1,
	};

	return once_in(8) ? draw() : values[below(sizeof(values) / sizeof(*values))];
}

/* Spoils a few bytes, or one field of 2, 4 or 8 bytes. */
static void spoil(void *what, size_t len)
{
	unsigned char *bytes = what;
	size_t width = 2 << below(3), times;
	__u64 value = boundary();

	if (len >= 8 && !once_in(4)) {
		memcpy(bytes + below(len / width) * width, &value, width);
		return;
	}
	for (times = 1 + below(4); len && times; times--)
		bytes[below(len)] = (unsigned char)draw();
}

static struct mlp_config any_config(void)
{
	struct mlp_config c = {
		.seed = draw(),
		.kind = 1 + (__u32)below(4),
		.trial = (__u32)below(2),
		.nr_streams = 1,
		.noise_levels = (__u32)below(8),
		.max = 7,
		.share_learning = 50000,
		.share_collaboration = 500000,
		.share_trusted = 950000,
		.sample_every = (__u32)below(4),
		.epoch = 1 + below(1000000),
		.epoch_settle = (__u32)below(900000),
		.twin_gate = (__u32)below(2),
		.alpha = 50000,
		.alpha_demote = 200000,
		.min_effect = 10000,
		.min_count = 2 + (__u32)below(20),
		.heartbeat_limit = once_in(3) ? boundary() : 0,
		.max_expiry = 1ULL << 60,
		.reject_limit = (__u32)below(200),
		.trip_limit = (__u32)below(20),
		.reject_window = once_in(2) ? boundary() : 0,
		.spike = 250000,
		.spike_count = 3,
		.cooldown = below(1000),
		.cooldown_max = 1000000,
	};

	c.name[0] = 'f';
	c.name[1] = (char)('a' + below(NAMES));
	if (c.kind != MLP_KIND_RANK)
		c.nr_streams = 1 + (__u32)below(4);
	if (c.kind == MLP_KIND_PROGRAM) {
		c.nr_features = 1 + (__u32)below(16);
		c.max_nodes = once_in(4) ? MLP_MAX_NODES : 1 + (__u32)below(100);
	}
	return c;
}

/* A valid program: children lie ahead, so the array is filled from its end. */
static size_t any_program(const struct mlp_config *c, void *out)
{
	struct mlp_program *h = out;
	struct mlp_node *node = (void *)(h + 1);
	__u64 top = c->max < 0 ? 0 : (__u64)c->max;
	__u32 i, n, cuts = once_in(2) ? (__u32)below(top < MLP_MAX_CUTS ? top + 1 : 9) : 0;

	memset(h, 0, sizeof(*h));
	n = 1 + (__u32)below(c->max_nodes < 24 || once_in(8) ? c->max_nodes : 24);
	h->nr_nodes = n;
	h->nr_trees = cuts ? 1 + (__u16)below(MLP_MAX_TREES) : 1;
	h->nr_features = (__u16)c->nr_features;
	h->nr_cuts = (__u16)cuts;
	h->stream = (__u16)below(c->nr_streams);
	for (i = 0; i < h->nr_cuts; i++)
		h->cuts[i] = (__s32)(i * 100) - 50;
	for (i = 1; i < h->nr_trees; i++)
		h->root[i] = (__u16)below(n);
	for (i = n; i--;) {
		memset(&node[i], 0, sizeof(*node));
		if (i + 2 >= n || once_in(3)) {
			node[i].feature = MLP_LEAF;
			node[i].confidence = (__u16)below(1001);
			node[i].value = (__s32)below(top + 1);
		} else {
			node[i].feature = (__u16)below(c->nr_features);
			node[i].left = (__u16)(i + 1 + below(n - i - 1 < 9 ? n - i - 1 : 9));
			node[i].right = (__u16)(i + 1 + below(n - i - 1));
			node[i].value = (__s32)below(2000) - 1000;
		}
	}
	return sizeof(*h) + n * sizeof(*node);
}

/* Spoils one node as a compiler's bug might: a child, a feature, a leaf. */
static void spoil_node(struct mlp_program *h)
{
	struct mlp_node *node = (struct mlp_node *)(h + 1) + below(h->nr_nodes ? h->nr_nodes : 1);

	switch (below(8)) {
	case 0:
		node->left = (__u16)below(h->nr_nodes + 1);
		break;
	case 1:
		node->right = (__u16)boundary();
		break;
	case 2:
		node->feature = once_in(2) ? (__u16)boundary() : MLP_LEAF;
		break;
	case 3:
		node->confidence = (__u16)boundary();
		break;
	case 4:
		node->value = (__s32)boundary();
		break;
	case 5:
		node->reserved = 1;
		break;
	case 6:
		h->root[below(MLP_MAX_TREES)] = (__u16)boundary();
		break;
	case 7:
		h->cuts[below(MLP_MAX_CUTS)] = (__s32)boundary();
		break;
	}
}

/* A chain, one step deeper than may be. */
static size_t too_deep(const struct mlp_config *c, void *out)
{
	struct mlp_program *h = out;
	struct mlp_node *node = (void *)(h + 1);
	__u32 i, n = 2 * (MLP_MAX_DEPTH + 1) + 1;

	if (c->max_nodes < n)
		return any_program(c, out);
	memset(out, 0, sizeof(*h) + n * sizeof(*node));
	h->nr_nodes = n;
	h->nr_trees = 1;
	h->nr_features = 1;
	for (i = 0; i < n; i++) {
		if (i % 2 || i == n - 1) {
			node[i].feature = MLP_LEAF;
		} else {
			node[i].left = (__u16)(i + 1);
			node[i].right = (__u16)(i + 2);
		}
	}
	return sizeof(*h) + n * sizeof(*node);
}

/* A recommendation for a proxy, valid or with one thing wrong. Returns its length. */
static size_t any_recommendation(const struct mlp_config *c, __u64 seq, __u64 now, void *out)
{
	struct mlp_recommendation *r = out;
	size_t len = sizeof(*r);
	__u64 ids[MLP_MAX_RANK];
	__u32 i;

	memset(r, 0, sizeof(*r));
	r->struct_len = sizeof(*r);
	r->abi_version = MLP_ABI_VERSION;
	r->kind = c->kind;
	r->model_id = 1;
	r->seq = seq;
	r->expiry = now + (1ULL << 50);
	r->model_version = 1 + (__u32)below(9);
	r->confidence = (__u16)below(1001);
	switch (c->kind) {
	case MLP_KIND_PROGRAM:
		len += once_in(40) ? too_deep(c, r + 1) : any_program(c, r + 1);
		if (once_in(3))
			spoil_node((void *)(r + 1));
		break;
	case MLP_KIND_RANK:
		r->nr = 1 + (__u16)below(c->max < 7 ? c->max + 1 : 8);
		for (i = 0; i < r->nr; i++)
			ids[i] = i;
		if (once_in(3))
			ids[below(r->nr)] = once_in(2) ? boundary() : below(r->nr);
		memcpy(r + 1, ids, r->nr * sizeof(*ids));
		len += r->nr * sizeof(*ids);
		break;
	default:
		r->value = once_in(6) ? (__s64)boundary() : c->max;
		break;
	}
	r->length = (__u32)len;
	switch (below(20)) {
	case 0:
		spoil(r, sizeof(*r));
		break;
	case 1:
		spoil(r, len);
		break;
	case 2:
		r->expiry = once_in(2) ? 0 : ~0ULL;
		break;
	case 3:
		r->model_version = 0;
		break;
	case 4:
		r->seq = below(2);
		break;
	}
	return len;
}

#endif /* TESTS_VM_INPUTS_H */
