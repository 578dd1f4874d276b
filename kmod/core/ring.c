// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ring that user space reads in place.
 *
 * One producer at a time: the caller serialises mlp_publish() and everything
 * that publishes (decide with sampling, report, mode changes). Per record the
 * producer sets seq to 0, writes the body, then seq, then head, each ordered
 * after the one before. A reader that finds the seq it expects before and
 * after reading the body has read it whole.
 */
#include "internal.h"

#define META_BYTES	4096

__u64 mlp_ring_size(__u32 capacity)
{
	return META_BYTES + (__u64)capacity * sizeof(struct mlp_record);
}

void mlp_ring_init(struct mlp_proxy *p, void *memory, __u32 capacity)
{
	struct mlp_ring_meta *meta = memory;

	/*
	 * Not the records: a reader looks at none beyond the head, and the kernel
	 * begins anew with interrupts off.
	 */
	memset(memory, 0, META_BYTES);
	meta->magic = MLP_MAGIC;
	meta->abi_version = MLP_ABI_VERSION;
	meta->struct_len = sizeof(*meta);
	meta->record_size = sizeof(struct mlp_record);
	meta->capacity = capacity;
	p->meta = meta;
	p->records = (void *)((char *)memory + META_BYTES);
	p->ring_mask = capacity - 1;
}

void mlp_publish(struct mlp_proxy *p, const struct mlp_record *rec)
{
	struct mlp_ring_meta *meta = p->meta;
	struct mlp_record *slot;
	__u64 head;

	if (!meta)
		return;
	head = meta->head;
	if (head - meta->tail > p->ring_mask) {
		/* The oldest unread record gives way, counted. */
		mlp_store(&meta->lost, meta->lost + 1);
		mlp_store_release(&meta->tail, meta->tail + 1);
	}
	slot = p->records + (head & p->ring_mask);
	mlp_store(&slot->seq, 0);
	/* A reader that sees any of the new body sees seq 0 or the new seq. */
	mlp_wmb();
	memcpy((char *)slot + sizeof(slot->seq), (const char *)rec + sizeof(rec->seq),
	       sizeof(*rec) - sizeof(rec->seq));
	mlp_store_release(&slot->seq, head + 1);
	mlp_store_release(&meta->head, head + 1);
}

int mlp_consume(struct mlp_proxy *p, __u64 upto)
{
	struct mlp_ring_meta *meta = p->meta;

	if (!meta || upto > meta->head)
		return -EINVAL;
	if (upto > meta->tail)
		mlp_store_release(&meta->tail, upto);
	return 0;
}
