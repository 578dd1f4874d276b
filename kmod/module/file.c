// SPDX-License-Identifier: GPL-2.0-only
/* An open /dev/mlproxy: at most one proxy, its ring to map, its news to poll. */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "../compat/mlproxy_compat.h"
#include "mlproxy_module.h"

/* file->private_data is the proxy: set once, under mlp_list_lock. */
struct mlproxy *mlp_file_proxy(struct file *file)
{
	/* Pairs with mlp_file_bind(): the proxy is seen complete. */
	return smp_load_acquire(&file->private_data);
}

void mlp_file_bind(struct file *file, struct mlproxy *p)
{
	lockdep_assert_held(&mlp_list_lock);
	get_device(&p->dev);
	p->agent = file;
	/* Pairs with mlp_file_proxy(). */
	smp_store_release(&file->private_data, p);
}

static int mlp_open(struct inode *inode, struct file *file)
{
	file->private_data = NULL;	/* misc_open() has put its device there */
	return nonseekable_open(inode, file);
}

/* The agent's death, if it still had a proxy: the default acts when this returns. */
static int mlp_release(struct inode *inode, struct file *file)
{
	struct mlproxy *p = mlp_file_proxy(file);

	if (!p)
		return 0;
	if (p->owned) {
		mlp_proxy_remove(p);
	} else {
		mutex_lock(&p->mutex);
		if (!p->gone)
			mlp_agent_leave(p);
		mutex_unlock(&p->mutex);
		mutex_lock(&mlp_list_lock);
		p->agent = NULL;
		mutex_unlock(&mlp_list_lock);
	}
	put_device(&p->dev);
	return 0;
}

static int mlp_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct mlproxy *p = mlp_file_proxy(file);

	if (!p)
		return -ENOTCONN;
	if (vma->vm_pgoff)
		return -EINVAL;
	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EACCES;
	mlp_vm_flags_clear(vma, VM_MAYWRITE | VM_MAYEXEC);
	/* Refuses more than there is. The mapping keeps the pages and the file. */
	return remap_vmalloc_range(vma, p->ring, 0);
}

static __poll_t mlp_poll(struct file *file, poll_table *wait)
{
	struct mlproxy *p = mlp_file_proxy(file);
	const struct mlp_ring_meta *meta;
	unsigned long flags;
	__poll_t mask = 0;

	if (!p)
		return EPOLLERR;
	poll_wait(file, &p->wait, wait);
	if (READ_ONCE(p->gone))
		return EPOLLHUP | EPOLLERR;
	spin_lock_irqsave(&p->lock, flags);
	meta = p->core.meta;
	if (p->mode_news || meta->head - meta->tail >= p->watermark)
		mask = EPOLLIN | EPOLLRDNORM;
	spin_unlock_irqrestore(&p->lock, flags);
	return mask;
}

const struct file_operations mlp_fops = {
	.owner = THIS_MODULE,
	.open = mlp_open,
	.release = mlp_release,
	.unlocked_ioctl = mlp_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = mlp_mmap,
	.poll = mlp_poll,
};
