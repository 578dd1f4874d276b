/* SPDX-License-Identifier: MIT */
/* What Python needs beside the core itself: loops over rows, addresses. */
#ifndef MLPROXY_BINDING_H
#define MLPROXY_BINDING_H

#include "mlproxy_core.h"

/* One action per row; rows are @stride features apart. */
void mlpy_eval_many(const void *program, const __s32 *features, __u64 rows,
		    __u64 stride, __s32 *actions);

/* The decision path's functions, for other native code in this process. */
struct mlpy_functions {
	void *decide;
	void *decide_rank;
	void *arm_of;
	void *report;
	void *report_twin;
	void *publish;
	void *program_eval;
	void *program_check;
	void *tick;
	void *critical;
};

void mlpy_functions(struct mlpy_functions *out);

#endif /* MLPROXY_BINDING_H */
