// SPDX-License-Identifier: GPL-2.0-only
/* Refused: may never end. */
#define CASE_LINK ".struct_ops.link"
#include "case.h"

SEC("struct_ops/decide")
__s64 decide(struct mlproxy_context **arguments)
{
	volatile __u32 i = 1;

	while (i)
		i += 2;
	return arguments[0]->default_action;
}
