// SPDX-License-Identifier: GPL-2.0-only
/* Refused: reads behind the context. */
#define CASE_LINK ".struct_ops.link"
#include "case.h"

SEC("struct_ops/decide")
__s64 decide(struct mlproxy_context **arguments)
{
	const __s32 *words = (const __s32 *)arguments[0];

	return words[sizeof(struct mlproxy_context) / sizeof(*words)];
}
