// SPDX-License-Identifier: GPL-2.0-only
/* Says what is no 32-bit number, but would be one if it were cut. */
#define CASE_LINK ".struct_ops.link"
#include "case.h"

SEC("struct_ops/decide")
__s64 decide(struct mlproxy_context **arguments)
{
	return 1LL << 32 | arguments[0]->features[0];
}
