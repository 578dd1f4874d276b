// SPDX-License-Identifier: GPL-2.0-only
/*
 * The walker: evaluates a program (uapi/mlproxy.h) that lies in a map, bit for
 * bit as mlp_program_eval() does, so that a new model is a map update and this
 * is the only BPF program that is ever loaded.
 *
 * Why nobody sees half a model: each model has a map of its own, filled and
 * frozen by user space before anybody can look at it, and never changed again.
 * Publishing it is one pointer in the map of maps. decide() reads that pointer
 * once, so all that it reads is of one model; the map that was replaced stays
 * until decisions under way, which are RCU readers, have ended.
 *
 * Why it may trust nothing: whoever may write the map may write anything. So
 * every index is cut to its array and every loop ends; a program that was not
 * checked (mlp_program_check()) gives a wrong action or none, and the proxy
 * takes only actions in its range.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "mlproxy.bpf.h"

#define S32_MAX		0x7fffffffLL
#define S32_MIN		(-0x7fffffffLL - 1)

struct model {
	struct mlp_program header;
	struct mlp_node node[MLP_MAX_NODES];
};

/* A model. Read-only for programs, and frozen: for user space too. */
struct model_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_RDONLY_PROG);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct model));
};

/* The model of each feature stream. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MLP_MAX_STREAMS);
	__type(key, __u32);
	__array(values, struct model_map);
} models SEC(".maps");

static const struct model *model_of(__u32 stream)
{
	void *map = bpf_map_lookup_elem(&models, &stream);
	__u32 first = 0;

	return map ? bpf_map_lookup_elem(map, &first) : NULL;
}

/* The leaf of a tree that the features lead to; NULL: deeper than is allowed. */
static __always_inline const struct mlp_node *
leaf_of(const struct model *model, __u32 index, const __s32 *features)
{
	const struct mlp_node *node;
	__u32 depth;

	for (depth = 0; depth <= MLP_MAX_DEPTH; depth++) {
		node = &model->node[index & (MLP_MAX_NODES - 1)];
		if (node->feature == MLP_LEAF)
			return node;
		index = features[node->feature & (MLP_MAX_FEATURES - 1)] <= node->value ?
			node->left : node->right;
	}
	return NULL;
}

static __always_inline __s64 action_of(const struct mlp_program *header, __s64 sum)
{
	__u32 i;

	if (!header->nr_cuts)
		return sum > S32_MAX ? S32_MAX : sum < S32_MIN ? S32_MIN : sum;
	for (i = 0; i < MLP_MAX_CUTS; i++)
		if (i >= header->nr_cuts || sum <= header->cuts[i])
			break;
	return i;
}

SEC("struct_ops/decide")
__s64 decide(struct mlproxy_context **arguments)
{
	struct mlproxy_context *context = arguments[0];
	const struct model *model = model_of(context->stream);
	__s32 features[MLP_MAX_FEATURES];
	const struct mlp_node *leaf;
	__u32 tree, lowest = 1000;
	__s64 sum = 0;

	if (!model)
		return MLP_BPF_NOTHING;
	/* On the stack: only there an index may come from a node. */
#pragma unroll
	for (tree = 0; tree < MLP_MAX_FEATURES; tree++)
		features[tree] = context->features[tree];
	for (tree = 0; tree < MLP_MAX_TREES; tree++) {
		if (tree >= model->header.nr_trees)
			break;
		leaf = leaf_of(model, model->header.root[tree], features);
		if (!leaf)
			return MLP_BPF_NOTHING;
		sum += leaf->value;
		if (leaf->confidence < lowest)
			lowest = leaf->confidence;
	}
	context->confidence = lowest;
	return action_of(&model->header, sum);
}

/* The loader puts the proxy's name in. */
SEC(".struct_ops.link")
struct mlproxy_ops walker = {
	.decide = (void *)decide,
};

char LICENSE[] SEC("license") = "GPL";
