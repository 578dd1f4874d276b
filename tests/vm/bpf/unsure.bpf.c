// SPDX-License-Identifier: GPL-2.0-only
/* Says a confidence that is none. */
#define CASE_LINK ".struct_ops.link"
#include "case.h"

SEC("struct_ops/decide")
__s64 decide(struct mlproxy_context **arguments)
{
	arguments[0]->confidence = arguments[0]->features[0];
	return 1;
}
