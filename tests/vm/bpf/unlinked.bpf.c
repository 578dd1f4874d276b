// SPDX-License-Identifier: GPL-2.0-only
/* Not attached: it would outlive whoever loads it. */
#define CASE_LINK ".struct_ops"
#include "case.h"

SEC("struct_ops/decide")
__s64 decide(struct mlproxy_context **arguments)
{
	return arguments[0]->default_action;
}
