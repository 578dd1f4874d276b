/* SPDX-License-Identifier: GPL-2.0-only */
/* Differences between kernel versions, 6.1 to 7.x; the only place that asks. */
#ifndef _MLPROXY_COMPAT_KERNEL_H
#define _MLPROXY_COMPAT_KERNEL_H

#include <linux/device/class.h>
#include <linux/mm.h>
#include <linux/version.h>

static inline struct class *mlp_class_create(const char *name)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	return class_create(name);
#else
	return class_create(THIS_MODULE, name);
#endif
}

static inline void mlp_vm_flags_clear(struct vm_area_struct *vma, unsigned long flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_clear(vma, flags);
#else
	vma->vm_flags &= ~flags;
#endif
}

/* struct_ops of modules came with 6.9; their link argument with 6.11. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0) && \
	defined(CONFIG_BPF_JIT) && defined(CONFIG_DEBUG_INFO_BTF_MODULES)
#define MLP_HAVE_STRUCT_OPS	1
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
#define MLP_STRUCT_OPS_ARGS	void *kdata, struct bpf_link *link
#define MLP_STRUCT_OPS_LINKED	(link)
#else
#define MLP_STRUCT_OPS_ARGS	void *kdata
#define MLP_STRUCT_OPS_LINKED	true	/* cannot be told */
#endif
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define MLP_PROG_SLEEPABLE(prog)	((prog)->sleepable)
#else
#define MLP_PROG_SLEEPABLE(prog)	((prog)->aux->sleepable)
#endif

#endif /* _MLPROXY_COMPAT_KERNEL_H */
