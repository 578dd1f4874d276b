// SPDX-License-Identifier: MIT
/*
 * The four timed loops take turns in blocks short enough that a change of the
 * machine's speed meets all of them alike, and long enough that reading the
 * clock around a block does not count.
 */
#define _GNU_SOURCE
#include <string.h>
#include <time.h>

#include "bench.h"

#define BLOCK	4096

static __u64 nanoseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (__u64)t.tv_sec * 1000000000 + (__u64)t.tv_nsec;
}

void mlpy_bench(struct mlp_proxy *p, const __s32 *features, __u64 rows, __u64 stride,
		__u64 rounds, struct mlpy_bench *out)
{
	static char from[BLOCK], to[BLOCK];
	__u64 spent[4] = { 0, 0, 0, 0 }, round, i, before, unit = 0, sink = 0;
	struct mlp_decision decision;
	struct mlp_record rec;

	memset(&rec, 0, sizeof(rec));
	rec.type = MLP_RECORD_SAMPLE;
	for (round = 0; round < rounds; round++) {
		before = nanoseconds();
		for (i = 0; i < BLOCK; i++, unit++) {
			mlp_decide(p, 0, features + (unit & (rows - 1)) * stride, unit, 0,
				   1, &decision);
			sink += (__u64)decision.action;
		}
		spent[0] += nanoseconds() - before;

		before = nanoseconds();
		for (i = 0; i < BLOCK; i++) {
			rec.unit = i;
			mlp_publish(p, &rec);
		}
		spent[1] += nanoseconds() - before;

		before = nanoseconds();
		for (i = 0; i < BLOCK; i++)
			sink += nanoseconds();
		spent[2] += nanoseconds() - before;

		before = nanoseconds();
		for (i = 0; i < BLOCK; i++) {
			memcpy(to + (i * 64) % BLOCK, from + (i * 64) % BLOCK, 64);
			/* Without this the compiler would merge the copies. */
			__asm__ volatile("" : : "r"(to) : "memory");
		}
		spent[3] += nanoseconds() - before;
	}
	__asm__ volatile("" : : "r"(sink));
	out->decide_program = (double)spent[0] / (double)(rounds * BLOCK);
	out->ring_publish = (double)spent[1] / (double)(rounds * BLOCK);
	out->clock_read = (double)spent[2] / (double)(rounds * BLOCK);
	out->memcpy64 = (double)spent[3] / (double)(rounds * BLOCK);
}
