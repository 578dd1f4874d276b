// SPDX-License-Identifier: MIT
/*
 * The four timed loops take turns in blocks short enough that a change of the
 * machine's speed meets all of them alike, and long enough that reading the
 * clock around a block does not count. The median block stands for a loop: one
 * during which somebody else had the CPU says nothing about the code.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

#define BLOCK	4096
#define MAX_ROUNDS	1024

static __u64 nanoseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (__u64)t.tv_sec * 1000000000 + (__u64)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	__u64 x = *(const __u64 *)a, y = *(const __u64 *)b;

	return x < y ? -1 : x > y;
}

static double median_per_call(__u64 *spent, __u64 rounds)
{
	qsort(spent, rounds, sizeof(*spent), ascending);
	return (double)spent[rounds / 2] / BLOCK;
}

void mlpy_bench(struct mlp_proxy *p, const __s32 *features, __u64 rows, __u64 stride,
		__u64 rounds, struct mlpy_bench *out)
{
	static char from[BLOCK], to[BLOCK];
	static __u64 spent[4][MAX_ROUNDS];
	__u64 round, i, before, unit = 0, sink = 0;
	struct mlp_decision decision;
	struct mlp_record rec;

	if (rounds > MAX_ROUNDS)
		rounds = MAX_ROUNDS;
	memset(&rec, 0, sizeof(rec));
	rec.type = MLP_RECORD_SAMPLE;
	for (round = 0; round < rounds; round++) {
		before = nanoseconds();
		for (i = 0; i < BLOCK; i++, unit++) {
			mlp_decide(p, 0, features + (unit & (rows - 1)) * stride, unit, 0,
				   1, &decision);
			sink += (__u64)decision.action;
		}
		spent[0][round] = nanoseconds() - before;

		before = nanoseconds();
		for (i = 0; i < BLOCK; i++) {
			rec.unit = i;
			mlp_publish(p, &rec);
		}
		spent[1][round] = nanoseconds() - before;

		before = nanoseconds();
		for (i = 0; i < BLOCK; i++)
			sink += nanoseconds();
		spent[2][round] = nanoseconds() - before;

		before = nanoseconds();
		for (i = 0; i < BLOCK; i++) {
			memcpy(to + (i * 64) % BLOCK, from + (i * 64) % BLOCK, 64);
			/* Without this the compiler would merge the copies. */
			__asm__ volatile("" : : "r"(to) : "memory");
		}
		spent[3][round] = nanoseconds() - before;
	}
	__asm__ volatile("" : : "r"(sink));
	out->decide_program = median_per_call(spent[0], rounds);
	out->ring_publish = median_per_call(spent[1], rounds);
	out->clock_read = median_per_call(spent[2], rounds);
	out->memcpy64 = median_per_call(spent[3], rounds);
}
