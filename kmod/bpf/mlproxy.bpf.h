/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a BPF program sees of the module: struct mlproxy_ops and the context of
 * its decide(), as in module/struct_ops.c. The loader finds the real layout in
 * the module's BTF.
 */
#ifndef _MLPROXY_BPF_H
#define _MLPROXY_BPF_H

#include "../uapi/mlproxy.h"

/* decide() has nothing to say: the default acts, which is counted (fallbacks). */
#define MLP_BPF_NOTHING		(-0x7fffffffffffffffLL - 1)

struct mlproxy_context {
	__s32 features[MLP_MAX_FEATURES];
	__u32 nr_features;
	__u32 stream;
	__s32 default_action;
	__u32 confidence;	/* may be written, 0..1000 */
} __attribute__((preserve_access_index));

struct mlproxy_ops {
	__s64 (*decide)(struct mlproxy_context *context);
	char proxy[MLP_NAME_LEN];
};

#endif /* _MLPROXY_BPF_H */
