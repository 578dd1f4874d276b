// SPDX-License-Identifier: GPL-2.0-only
/* Refused: writes where the confidence would be, into something else. */
#define CASE_LINK ".struct_ops.link"
#include "case.h"

SEC("struct_ops/decide")
__s64 decide(struct mlproxy_context **arguments)
{
	struct mlproxy_context *task = (void *)bpf_get_current_task_btf();

	/* By hand: relocated, it would be an offset in another struct. */
	((__u32 *)task)[__builtin_offsetof(struct mlproxy_context, confidence) / 4] = 1;
	return (long)arguments & 1;
}
