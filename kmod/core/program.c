// SPDX-License-Identifier: GPL-2.0-only
/*
 * Programs: compiled models as flat arrays of nodes. Checked once, on load,
 * so that evaluating needs no check: every child lies ahead of its parent and
 * inside the array, hence a walk ends, and the depth bounds its length.
 */
#include "internal.h"

#define WORDS	(MLP_MAX_NODES / 64)

/* A reader of nodes that need not be aligned: they come from a byte buffer. */
static inline struct mlp_node node_at(const void *program, __u32 index)
{
	struct mlp_node node;

	memcpy(&node, (const char *)program + sizeof(struct mlp_program) +
	       index * sizeof(node), sizeof(node));
	return node;
}

static int check_header(const struct mlp_program *h, __u64 len,
			const struct mlp_config *cfg)
{
	__u32 i;

	if (h->nr_nodes < 1 || h->nr_nodes > MLP_MAX_NODES ||
	    (cfg && h->nr_nodes > cfg->max_nodes))
		return -MLP_REJECT_SIZE;
	if (h->nr_trees < 1 || h->nr_trees > MLP_MAX_TREES ||
	    h->nr_cuts > MLP_MAX_CUTS)
		return -MLP_REJECT_SIZE;
	if (len != sizeof(*h) + (__u64)h->nr_nodes * sizeof(struct mlp_node))
		return -MLP_REJECT_SIZE;
	if (h->nr_features > (cfg ? cfg->nr_features : MLP_MAX_FEATURES) ||
	    h->stream >= (cfg ? cfg->nr_streams : MLP_MAX_STREAMS))
		return -MLP_REJECT_INDEX;
	if (h->reserved)
		return -MLP_REJECT_RESERVED;
	for (i = 0; i < MLP_MAX_TREES; i++) {
		if (i >= h->nr_trees && h->root[i])
			return -MLP_REJECT_RESERVED;
		if (i < h->nr_trees && h->root[i] >= h->nr_nodes)
			return -MLP_REJECT_INDEX;
	}
	for (i = 0; i < MLP_MAX_CUTS; i++) {
		if (i >= h->nr_cuts && h->cuts[i])
			return -MLP_REJECT_RESERVED;
		if (i && i < h->nr_cuts && h->cuts[i] <= h->cuts[i - 1])
			return -MLP_REJECT_RANGE;
	}
	return 0;
}

static int check_node(const struct mlp_program *h, struct mlp_node node, __u32 index)
{
	if (node.reserved)
		return -MLP_REJECT_RESERVED;
	if (node.feature == MLP_LEAF) {
		if (node.left || node.right)
			return -MLP_REJECT_RESERVED;
		return node.confidence > 1000 ? -MLP_REJECT_LEAF : 0;
	}
	if (node.confidence)
		return -MLP_REJECT_RESERVED;
	if (node.feature >= h->nr_features || node.left >= h->nr_nodes ||
	    node.right >= h->nr_nodes)
		return -MLP_REJECT_INDEX;
	if (node.left <= index || node.right <= index)
		return -MLP_REJECT_CYCLE;
	return 0;
}

static void mark(__u64 *set, __u32 index)
{
	set[index / 64] |= 1ULL << (index % 64);
}

/* Level by level: after MLP_MAX_DEPTH steps nothing may be left to visit. */
static int check_depth(const void *program, const struct mlp_program *h)
{
	__u64 level[2][WORDS] = { { 0 } };
	__u32 depth, word, tree, left_over = 1;

	for (tree = 0; tree < h->nr_trees; tree++)
		mark(level[0], h->root[tree]);
	for (depth = 0; depth <= MLP_MAX_DEPTH && left_over; depth++) {
		__u64 *now = level[depth & 1], *next = level[!(depth & 1)];

		left_over = 0;
		memset(next, 0, sizeof(level[0]));
		for (word = 0; word < WORDS; word++) {
			__u64 bits = now[word];

			for (; bits; bits &= bits - 1) {
				struct mlp_node node = node_at(program,
					word * 64 + (__u32)__builtin_ctzll(bits));

				if (node.feature == MLP_LEAF)
					continue;
				mark(next, node.left);
				mark(next, node.right);
				left_over = 1;
			}
		}
	}
	return left_over ? -MLP_REJECT_DEPTH : 0;
}

/* The sums that the trees can reach must all be actions the proxy allows. */
static int check_actions(const void *program, const struct mlp_program *h,
			 const struct mlp_config *cfg)
{
	__s64 low = 0, high = 0;
	__u32 tree, i;

	for (tree = 0; tree < h->nr_trees; tree++) {
		__u64 reached[WORDS] = { 0 };
		__s64 least = MLP_S64_MAX, most = -MLP_S64_MAX;

		mark(reached, h->root[tree]);
		for (i = h->root[tree]; i < h->nr_nodes; i++) {
			struct mlp_node node;

			if (!(reached[i / 64] >> (i % 64) & 1))
				continue;
			node = node_at(program, i);
			if (node.feature != MLP_LEAF) {
				mark(reached, node.left);
				mark(reached, node.right);
				continue;
			}
			if (node.value < least)
				least = node.value;
			if (node.value > most)
				most = node.value;
		}
		low += least;
		high += most;
	}
	if (h->nr_cuts) {	/* the action is a number of cuts */
		low = 0;
		high = h->nr_cuts;
	}
	return low < cfg->min || high > cfg->max ? -MLP_REJECT_LEAF : 0;
}

int mlp_program_check(const void *program, __u64 len, const struct mlp_config *cfg)
{
	struct mlp_program header;
	__u32 i;
	int err;

	if (len < sizeof(header))
		return -MLP_REJECT_SIZE;
	memcpy(&header, program, sizeof(header));
	err = check_header(&header, len, cfg);
	if (err)
		return err;
	for (i = 0; i < header.nr_nodes; i++) {
		err = check_node(&header, node_at(program, i), i);
		if (err)
			return err;
	}
	err = check_depth(program, &header);
	if (err || !cfg)
		return err;
	return check_actions(program, &header, cfg);
}

__s32 mlp_program_eval(const void *program, const __s32 *features, __u32 *confidence)
{
	const struct mlp_program *header = program;
	const struct mlp_node *nodes = (const void *)(header + 1);
	__u32 tree, lowest = 1000;
	__s64 sum = 0;
	__s32 action;

	for (tree = 0; tree < header->nr_trees; tree++) {
		const struct mlp_node *node = nodes + header->root[tree];

		while (node->feature != MLP_LEAF) {
			const struct mlp_node *left = nodes + node->left;
			const struct mlp_node *right = nodes + node->right;

			/* Nobody can predict the way: select, do not branch. */
			mlp_hide(left);
			mlp_hide(right);
			node = features[node->feature] <= node->value ? left : right;
		}
		sum += node->value;
		if (node->confidence < lowest)
			lowest = node->confidence;
	}
	if (confidence)
		*confidence = lowest;
	if (header->nr_cuts) {
		for (action = 0; action < header->nr_cuts; action++)
			if (sum <= header->cuts[action])
				break;
		return action;
	}
	return (__s32)mlp_clamp(sum, -0x7fffffffLL - 1, 0x7fffffffLL);
}
