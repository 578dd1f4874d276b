// SPDX-License-Identifier: GPL-2.0-only
/* Refused: writes to another field than the confidence. */
#define CASE_LINK ".struct_ops.link"
#include "case.h"

SEC("struct_ops/decide")
__s64 decide(struct mlproxy_context **arguments)
{
	arguments[0]->default_action = 1;
	return 1;
}
