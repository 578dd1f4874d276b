// SPDX-License-Identifier: MIT
/* Loops and addresses for the Python binding; see binding.h. */
#include "binding.h"

void mlpy_eval_many(const void *program, const __s32 *features, __u64 rows,
		    __u64 stride, __s32 *actions)
{
	__u64 i;

	for (i = 0; i < rows; i++)
		actions[i] = mlp_program_eval(program, features + i * stride, 0);
}

void mlpy_functions(struct mlpy_functions *out)
{
	out->decide = (void *)mlp_decide;
	out->decide_rank = (void *)mlp_decide_rank;
	out->arm_of = (void *)mlp_arm_of;
	out->report = (void *)mlp_report;
	out->report_twin = (void *)mlp_report_twin;
	out->publish = (void *)mlp_publish;
	out->program_eval = (void *)mlp_program_eval;
	out->program_check = (void *)mlp_program_check;
	out->tick = (void *)mlp_tick;
	out->critical = (void *)mlp_critical;
}
