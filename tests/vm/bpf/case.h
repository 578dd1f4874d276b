/* SPDX-License-Identifier: GPL-2.0-only */
/* What the cases' programs have in common: all is there but decide(). */
#ifndef _CASE_H
#define _CASE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "mlproxy.bpf.h"

/* The loader wants it; no case puts anything in. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} models SEC(".maps");

__s64 decide(struct mlproxy_context **arguments);

SEC(CASE_LINK)
struct mlproxy_ops walker = {
	.decide = (void *)decide,
};

char LICENSE[] SEC("license") = "GPL";

#endif /* _CASE_H */
