// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long from publishing a record to a woken reader, beside an eventfd.
 *
 *	wakeup ROUNDS SAMPLES	prints "ring NS" and "eventfd NS", one line a sample
 *
 * The example consumer publishes in one thread, another sleeps in poll(); both
 * sides differ in nothing but what wakes. They take turns by rounds, so that a
 * disturbance hits both alike.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "mlproxy_ioctl.h"

#define CAPACITY	4096
#define OPS		"/sys/kernel/debug/mlproxy_example/ops"
#define EXAMPLE_LABEL	3

/* As kmod/example/example.h has it. */
struct example_op {
	__u64 now, unit;
	__s64 cost, cost2;
	__u32 what, stream;
	__s32 arg;
	__u32 reserved;
	__s32 features[MLP_MAX_FEATURES];
};

#define CHECK(condition) do {							\
	if (!(condition)) {							\
		fprintf(stderr, "wakeup.c:%d: %s (errno %d: %s)\n", __LINE__,	\
			#condition, errno, strerror(errno));			\
		exit(1);							\
	}									\
} while (0)

static int device, ops, event;
static volatile struct mlp_ring_meta *meta;
static volatile struct mlp_record *records;

enum side { RING, EVENTFD, END };

static int asked;	/* 1 + the side that the reader is about to wait on; 0: none */
static __u64 sent;	/* when the writer began */
static __u64 number;	/* of the sample */

static __u64 now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (__u64)t.tv_sec * 1000000000 + (__u64)t.tv_nsec;
}

static void pause_for(long ns)
{
	struct timespec t = { .tv_nsec = ns };

	nanosleep(&t, NULL);
}

static void pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % (unsigned int)sysconf(_SC_NPROCESSORS_ONLN), &set);
	CHECK(!sched_setaffinity(0, sizeof(set), &set));
}

static void *writer(void *unused)
{
	struct example_op op = { .what = EXAMPLE_LABEL };
	__u64 one = 1;
	int side;

	(void)unused;
	pin(1);
	for (;;) {
		while (!(side = __atomic_exchange_n(&asked, 0, __ATOMIC_ACQ_REL)))
			pause_for(20000);
		if (--side == END)
			return NULL;
		pause_for(300000);	/* the reader sleeps by then */
		op.now = op.unit = __atomic_add_fetch(&number, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&sent, now(), __ATOMIC_RELEASE);
		if (side == RING)
			CHECK(write(ops, &op, sizeof(op)) == sizeof(op));
		else
			CHECK(write(event, &one, sizeof(one)) == sizeof(one));
	}
}

/* What woke us must be the record of this sample, whole. */
static void take_record(void)
{
	struct mlp_ioc_consume consume = { .upto = __atomic_load_n(&meta->head, __ATOMIC_ACQUIRE) };
	volatile struct mlp_record *record = records + ((consume.upto - 1) & (CAPACITY - 1));

	CHECK(consume.upto == meta->tail + 1);
	CHECK(record->seq == consume.upto && record->type == MLP_RECORD_LABEL);
	CHECK(record->unit == __atomic_load_n(&number, __ATOMIC_RELAXED));
	CHECK(!ioctl(device, MLP_IOC_CONSUME, &consume));
}

static __u64 sample(enum side side)
{
	struct pollfd poll_on = { .fd = side == RING ? device : event, .events = POLLIN };
	__u64 woken, count;

	__atomic_store_n(&asked, 1 + (int)side, __ATOMIC_RELEASE);
	CHECK(poll(&poll_on, 1, 10000) == 1 && poll_on.revents == POLLIN);
	woken = now();
	if (side == RING)
		take_record();
	else
		CHECK(read(event, &count, sizeof(count)) == sizeof(count) && count == 1);
	return woken - __atomic_load_n(&sent, __ATOMIC_ACQUIRE);
}

static void set_up(void)
{
	struct mlp_ioc_attach attach = { .abi_version = MLP_ABI_VERSION, .name = "example" };
	struct mlp_ioc_consume consume = { 0 };
	char *ring;

	device = open("/dev/mlproxy", O_RDWR | O_CLOEXEC);
	CHECK(device >= 0);
	CHECK(!ioctl(device, MLP_IOC_ATTACH, &attach));
	CHECK(attach.capacity == CAPACITY);
	ring = mmap(NULL, 4096 + CAPACITY * sizeof(struct mlp_record), PROT_READ, MAP_SHARED, device, 0);
	CHECK(ring != MAP_FAILED);
	meta = (void *)ring;
	records = (void *)(ring + 4096);
	consume.upto = meta->head;
	CHECK(!ioctl(device, MLP_IOC_CONSUME, &consume));
	ops = open(OPS, O_WRONLY | O_CLOEXEC);
	CHECK(ops >= 0);
	event = eventfd(0, EFD_CLOEXEC);
	CHECK(event >= 0);
}

int main(int argc, char **argv)
{
	static const char * const names[] = { "ring", "eventfd" };
	int rounds = argc > 1 ? atoi(argv[1]) : 10, samples = argc > 2 ? atoi(argv[2]) : 100;
	__u64 *ns = calloc((size_t)samples, sizeof(*ns));
	pthread_t thread;
	int i, k, side;

	CHECK(ns);
	set_up();
	CHECK(!pthread_create(&thread, NULL, writer, NULL));
	pin(0);
	for (i = 0; i < 20; i++)	/* warm */
		sample(i & 1);
	for (i = 0; i < rounds; i++) {
		for (k = 0; k < 2; k++) {
			side = (i + k) & 1;	/* who is first takes turns too */
			for (int j = 0; j < samples; j++)
				ns[j] = sample(side);
			for (int j = 0; j < samples; j++)
				printf("%s %llu\n", names[side], ns[j]);
		}
	}
	__atomic_store_n(&asked, 1 + (int)END, __ATOMIC_RELEASE);
	CHECK(!pthread_join(thread, NULL));
	free(ns);
	return 0;
}
