// SPDX-License-Identifier: GPL-2.0-only
/* Refused: decisions are made under a spinlock. */
#define CASE_LINK ".struct_ops.link"
#include "case.h"

SEC("struct_ops.s/decide")
__s64 decide(struct mlproxy_context **arguments)
{
	return arguments[0]->default_action;
}
