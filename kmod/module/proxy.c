// SPDX-License-Identifier: GPL-2.0-only
/* Proxies: made, listed, taken away, and what follows from each call. */
#include <linux/ctype.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include "../compat/mlproxy_compat.h"
#include "mlproxy_module.h"
#include "trace.h"

/* The list, the panic button, who is whose agent, whose the struct_ops are. */
DEFINE_MUTEX(mlp_list_lock);
LIST_HEAD(mlp_list);
bool mlp_panic;

static struct class *mlp_class;

struct mlproxy *mlp_find(const char *name)
{
	struct mlproxy *p;

	lockdep_assert_held(&mlp_list_lock);
	/* Not the core's name: REINIT writes that without this lock. */
	list_for_each_entry(p, &mlp_list, node)
		if (!strcmp(dev_name(&p->dev), name))
			return p;
	return NULL;
}

u64 mlp_now(const struct mlproxy *p)
{
	switch (p->clock) {
	case MLP_CLOCK_CALLER:
		return p->caller_now;
	case MLP_CLOCK_OWNER:
		return p->owner_clock(p->context);
	default:
		return ktime_get_ns();
	}
}

unsigned long mlp_enter(struct mlproxy *p) __acquires(&p->lock)
{
	unsigned long flags;

	spin_lock_irqsave(&p->lock, flags);
	return flags;
}

void mlp_set_critical(struct mlproxy *p, u32 who, bool on)
{
	lockdep_assert_held(&p->lock);
	p->critical = on ? p->critical | who : p->critical & ~who;
	mlp_critical(&p->core, !!p->critical, mlp_now(p));
}

/* Tells what has happened meanwhile: readers are woken, knobs looked after. */
void mlp_leave(struct mlproxy *p, unsigned long flags) __releases(&p->lock)
{
	const struct mlp_ring_meta *meta = p->core.meta;
	bool wake = false;

	if (p->seen_seq != p->core.mode_seq) {
		trace_mlproxy_mode(p->core.cfg.name, p->seen_mode, mlp_mode_of(&p->core),
				   p->core.reason, mlp_now(p));
		p->seen_seq = p->core.mode_seq;
		p->seen_mode = mlp_mode_of(&p->core);
		p->mode_news = true;
		wake = true;
	} else if (!p->woken && meta->head - meta->tail >= p->watermark) {
		wake = true;
	}
	p->woken |= wake;
	spin_unlock_irqrestore(&p->lock, flags);
	if (wake)
		irq_work_queue(&p->wake);
}

static void mlp_wake(struct irq_work *work)
{
	struct mlproxy *p = container_of(work, struct mlproxy, wake);

	wake_up_interruptible(&p->wait);
	mlp_agent_kick(p);
}

/*
 * Zeroed memory that may be mapped and is charged to whoever asks for it;
 * vmalloc_user() does not charge. vfree() gives it back.
 */
static void *mlp_alloc_ring(u32 capacity)
{
	u32 nr = PAGE_ALIGN(mlp_ring_size(capacity)) >> PAGE_SHIFT, i;
	struct page **pages = kvcalloc(nr, sizeof(*pages), GFP_KERNEL_ACCOUNT);
	void *ring;

	if (!pages)
		return NULL;
	for (i = 0; i < nr; i++) {
		pages[i] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!pages[i])
			goto free;
		cond_resched();
	}
	ring = vmap(pages, nr, VM_MAP | VM_USERMAP | VM_MAP_PUT_PAGES, PAGE_KERNEL);
	if (ring)
		return ring;
free:
	while (i--)
		__free_page(pages[i]);
	kvfree(pages);
	return NULL;
}

static void mlp_device_release(struct device *dev)
{
	struct mlproxy *p = to_mlproxy(dev);

	irq_work_sync(&p->wake);
	vfree(p->ring);
	kvfree(p->slots);
	mutex_destroy(&p->mutex);
	kfree(p);
}

/* The kernel's isalnum() knows Latin-1, which is not UTF-8. */
static bool mlp_alnum(char c)
{
	return isascii(c) && isalnum(c);
}

/* The name becomes a directory in sysfs and a topic of the feed. */
static bool mlp_name_ok(const char *name)
{
	if (!mlp_alnum(*name))
		return false;
	for (; *name; name++)
		if (!mlp_alnum(*name) && !strchr("._-", *name))
			return false;
	return true;
}

/*
 * Makes a proxy that nobody sees yet; put_device() frees it. The configuration
 * was checked. ERR_PTR() on error.
 */
struct mlproxy *mlp_proxy_create(const struct mlproxy_desc *desc, u32 clock)
{
	u64 slots = mlp_slots_size(desc->config), now;
	unsigned long flags;
	struct mlproxy *p;
	int err = -ENOMEM;

	if (!mlp_name_ok(desc->config->name) || !is_power_of_2(desc->capacity) ||
	    desc->capacity > MLP_MAX_CAPACITY)
		return ERR_PTR(-EINVAL);
	p = kzalloc(sizeof(*p), GFP_KERNEL_ACCOUNT);
	if (!p)
		return ERR_PTR(-ENOMEM);
	device_initialize(&p->dev);
	p->dev.class = mlp_class;
	p->dev.release = mlp_device_release;
	p->dev.groups = mlp_proxy_groups;
	device_set_pm_not_required(&p->dev);
	INIT_LIST_HEAD(&p->node);
	mutex_init(&p->mutex);
	spin_lock_init(&p->lock);
	init_waitqueue_head(&p->wait);
	init_irq_work(&p->wake, mlp_wake);
	INIT_DELAYED_WORK(&p->work, mlp_agent_work);
	p->clock = clock;
	p->rights = desc->rights;
	p->capacity = desc->capacity;
	p->owner_clock = desc->clock;
	p->context = desc->context;
	p->watermark = 1;
	p->ring = mlp_alloc_ring(desc->capacity);
	if (!p->ring)
		goto put;
	if (slots) {
		p->slots = kvzalloc(slots, GFP_KERNEL_ACCOUNT);
		if (!p->slots)
			goto put;
	}
	spin_lock_irqsave(&p->lock, flags);	/* as the owner's clock may expect */
	now = mlp_now(p);
	spin_unlock_irqrestore(&p->lock, flags);
	err = mlp_init(&p->core, desc->config, p->slots, p->ring, desc->capacity, now);
	if (err)
		goto put;
	p->longest = sizeof(struct mlp_recommendation) + p->core.slot_bytes;
	err = dev_set_name(&p->dev, "%s", desc->config->name);
	if (err)
		goto put;
	return p;

put:
	put_device(&p->dev);
	return ERR_PTR(err);
}

/* Shows it to the world. -EEXIST: the name is taken. */
int mlp_proxy_add(struct mlproxy *p)
{
	unsigned long flags;
	int err = -EEXIST;

	mutex_lock(&mlp_list_lock);
	if (mlp_find(dev_name(&p->dev)))
		goto out;
	err = device_add(&p->dev);
	if (err)
		goto out;
	if (mlp_panic) {
		flags = mlp_enter(p);
		mlp_operator(&p->core, 1, mlp_now(p));
		mlp_leave(p, flags);
	}
	list_add_tail(&p->node, &mlp_list);
out:
	mutex_unlock(&mlp_list_lock);
	return err;
}

/*
 * Takes it away. An agent that still has it finds it gone; the memory goes
 * with the last reference. No call of the owner may be under way.
 */
void mlp_proxy_remove(struct mlproxy *p)
{
	unsigned long flags;

	mutex_lock(&mlp_list_lock);
	p->leaving = true;
	flags = mlp_enter(p);
	mlp_set_walker(&p->core, NULL, NULL);
	mlp_leave(p, flags);
	p->ops = NULL;
	mutex_unlock(&mlp_list_lock);

	mutex_lock(&p->mutex);
	WRITE_ONCE(p->gone, true);	/* mlp_agent_kick() reads it without the mutex */
	mlp_agent_leave(p);
	mlp_knobs_release(p, true);
	mutex_unlock(&p->mutex);
	wake_up_interruptible(&p->wait);

	/* The name is free only when its directory in sysfs has gone. */
	mutex_lock(&mlp_list_lock);
	list_del_init(&p->node);
	device_del(&p->dev);
	mutex_unlock(&mlp_list_lock);
	put_device(&p->dev);
}

int mlp_proxies_init(void)
{
	int err;

	err = mlp_agents_init();
	if (err)
		return err;
	mlp_class = mlp_class_create("mlproxy");
	if (IS_ERR(mlp_class)) {
		mlp_agents_exit();
		return PTR_ERR(mlp_class);
	}
	return 0;
}

void mlp_proxies_exit(void)
{
	class_destroy(mlp_class);
	mlp_agents_exit();
}
