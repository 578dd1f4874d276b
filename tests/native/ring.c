// SPDX-License-Identifier: GPL-2.0-only
/*
 * One thread publishes as fast as it can, another reads in place: what it finds
 * between two equal, right sequence numbers must be whole. Lost records are
 * counted, none is torn.
 *
 *	ring RECORDS
 */
#include <pthread.h>

#include "common.h"

#define CAPACITY	16

static struct rig rig;
static __u64 records;
static int done;

static void *produce(void *unused)
{
	struct mlp_record rec;
	__u64 i;
	__u32 k;

	(void)unused;
	memset(&rec, 0, sizeof(rec));
	for (i = 1; i <= records; i++) {
		rec.unit = i;
		rec.cost = (__s64)i;
		for (k = 0; k < MLP_MAX_FEATURES; k++)
			rec.features[k] = (__s32)i;
		mlp_publish(rig.p, &rec);
	}
	__atomic_store_n(&done, 1, __ATOMIC_RELEASE);
	return NULL;
}

int main(int argc, char **argv)
{
	struct mlp_config cfg = config_of(MLP_KIND_VALUE);
	struct mlp_ring_meta *meta;
	volatile struct mlp_record *ring;
	__u64 next = 1, whole = 0, missed = 0;
	pthread_t thread;

	records = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000;
	rig_up(&rig, &cfg, CAPACITY);
	meta = rig.ring;
	ring = (void *)((char *)rig.ring + 4096);
	CHECK(!pthread_create(&thread, NULL, produce, NULL));
	for (;;) {
		int over = __atomic_load_n(&done, __ATOMIC_ACQUIRE);
		__u64 head = __atomic_load_n(&meta->head, __ATOMIC_ACQUIRE);

		if (next > head) {
			if (over)
				break;
			continue;
		}
		if (head - next >= CAPACITY) {
			missed += head - CAPACITY + 1 - next;
			next = head - CAPACITY + 1;
		}
		for (; next <= head; next++) {
			volatile struct mlp_record *slot = ring + ((next - 1) & (CAPACITY - 1));
			__u64 unit, k, same = 1;
			__s64 cost;

			if (__atomic_load_n(&slot->seq, __ATOMIC_ACQUIRE) != next) {
				missed++;
				continue;
			}
			unit = slot->unit;
			cost = slot->cost;
			for (k = 0; k < MLP_MAX_FEATURES; k++)
				same &= slot->features[k] == (__s32)next;
			__atomic_thread_fence(__ATOMIC_ACQUIRE);
			if (__atomic_load_n(&slot->seq, __ATOMIC_RELAXED) != next) {
				missed++;
				continue;
			}
			CHECK(unit == next && cost == (__s64)next && same);
			whole++;
		}
	}
	pthread_join(thread, NULL);
	CHECK(whole + missed == records);
	CHECK(meta->head == records && meta->lost == records - CAPACITY);
	printf("%llu whole, %llu missed\n", whole, missed);
	rig_down(&rig);
	return 0;
}
