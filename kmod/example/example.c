// SPDX-License-Identifier: GPL-2.0-only
/*
 * An example of an in-kernel user: a subsystem whose operations come from a
 * file in debugfs, so that a test can play any sequence of them.
 *
 * Registers the proxy "example" (module parameters: kind, twin_gate) with a
 * clock of its own: the time of the operation being played. Writing struct
 * mlp_example_op to debugfs mlproxy_example/ops plays them; reading "digest"
 * gives a hash over all decisions so far. Reading "bench" measures (bench.c).
 * Writing "THREADS CALLS" to "hammer" calls from many at once (hammer.c);
 * reading it tells what the last write has done.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "example.h"

static unsigned int kind = MLP_KIND_PROGRAM;
module_param(kind, uint, 0444);
MODULE_PARM_DESC(kind, "1 value, 2 choice, 3 rank, 4 program");

static unsigned int twin_gate;
module_param(twin_gate, uint, 0444);
MODULE_PARM_DESC(twin_gate, "1: no real operation before a win on the twin");

static unsigned int capacity = 4096;
module_param(capacity, uint, 0444);
MODULE_PARM_DESC(capacity, "records of the ring, a power of two");

static struct mlproxy *proxy;
static struct dentry *dir;
static atomic64_t played_now;	/* the proxy's clock */
static u64 digest = 14695981039346656037ULL;
static DEFINE_MUTEX(play_lock);

static u64 example_clock(void *context)
{
	return (u64)atomic64_read(&played_now);
}

/* FNV-1a over 64-bit words. */
static void mix(u64 word)
{
	digest = (digest ^ word) * 1099511628211ULL;
}

static void play(const struct mlp_example_op *op)
{
	struct mlp_decision decision;
	struct mlp_record record = { .type = MLP_RECORD_LABEL };

	atomic64_set(&played_now, (s64)op->now);
	switch (op->what) {
	case MLP_EXAMPLE_DECIDE:
		mlproxy_decide(proxy, op->stream, op->features, op->unit, op->arg, &decision);
		mix((u64)decision.arm << 32 | (u32)decision.action);
		mix((u64)decision.model_version << 32 | decision.confidence);
		break;
	case MLP_EXAMPLE_REPORT:
		mlproxy_report(proxy, op->stream, op->unit, op->cost);
		break;
	case MLP_EXAMPLE_TWIN:
		mlproxy_report_twin(proxy, op->cost, op->cost2);
		break;
	case MLP_EXAMPLE_LABEL:
		record.time = op->now;
		record.unit = op->unit;
		record.cost = op->cost;
		mlproxy_publish(proxy, &record);
		break;
	case MLP_EXAMPLE_CRITICAL:
		mlproxy_critical(proxy, op->arg);
		break;
	case MLP_EXAMPLE_TICK:
		mlproxy_tick(proxy);
		break;
	}
}

#define BATCH	256

static ssize_t ops_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	struct mlp_example_op *ops;
	size_t done = 0, i, nr;

	if (!len || len % sizeof(*ops))
		return -EINVAL;
	ops = kmalloc_array(BATCH, sizeof(*ops), GFP_KERNEL);
	if (!ops)
		return -ENOMEM;
	mutex_lock(&play_lock);
	while (done < len) {
		nr = min_t(size_t, BATCH, (len - done) / sizeof(*ops));
		if (copy_from_user(ops, from + done, nr * sizeof(*ops)))
			break;
		for (i = 0; i < nr; i++)
			play(&ops[i]);
		done += nr * sizeof(*ops);
		cond_resched();
	}
	mutex_unlock(&play_lock);
	kfree(ops);
	return done ? (ssize_t)done : -EFAULT;
}

static const struct file_operations ops_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = ops_write,
};

static int digest_get(void *data, u64 *value)
{
	mutex_lock(&play_lock);
	*value = digest;
	mutex_unlock(&play_lock);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(digest_fops, digest_get, NULL, "%016llx\n");

static int bench_show(struct seq_file *out, void *unused)
{
	int err;

	mutex_lock(&play_lock);
	err = mlp_example_bench(proxy, out);
	mutex_unlock(&play_lock);
	return err;
}
DEFINE_SHOW_ATTRIBUTE(bench);

#define MAX_CALLS	10000000

static ssize_t hammer_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	u32 threads, calls;
	char text[32];
	int err;

	if (len >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, len))
		return -EFAULT;
	text[len] = '\0';
	if (sscanf(text, "%u %u", &threads, &calls) != 2 || calls > MAX_CALLS)
		return -EINVAL;
	mutex_lock(&play_lock);
	err = mlp_example_hammer(proxy, &played_now, threads, calls);
	mutex_unlock(&play_lock);
	return err ? err : (ssize_t)len;
}

static int hammer_show(struct seq_file *out, void *unused)
{
	mutex_lock(&play_lock);
	mlp_example_hammered(out);
	mutex_unlock(&play_lock);
	return 0;
}

static int hammer_open(struct inode *inode, struct file *file)
{
	return single_open(file, hammer_show, NULL);
}

static const struct file_operations hammer_fops = {
	.owner = THIS_MODULE,
	.open = hammer_open,
	.read = seq_read,
	.write = hammer_write,
	.llseek = seq_lseek,
	.release = single_release,
};

/* What the sequence is played against; tests make the same one in user space. */
static const struct mlp_config base = {
	.name = "example",
	.seed = 1,
	.trial = MLP_TRIAL_PARTITION,
	.nr_streams = 1,
	.share_learning = 50000,
	.share_collaboration = 500000,
	.share_trusted = 950000,
	.sample_every = 64,
	.alpha = 50000,
	.alpha_demote = 200000,
	.min_effect = 10000,
	.min_count = 16,
	.heartbeat_limit = 1000000,
	.max_expiry = 1ULL << 40,
	.reject_limit = 64,
	.trip_limit = 100,
	.spike = 250000,
	.spike_count = 3,
	.cooldown = 1000,
	.cooldown_max = 16000,
};

static void set_kind(struct mlp_config *config)
{
	config->kind = kind;
	config->twin_gate = twin_gate;
	config->min = kind == MLP_KIND_VALUE ? -1000 : 0;
	config->max = kind == MLP_KIND_RANK ? 4095 : kind == MLP_KIND_VALUE ? 1000 : 7;
	if (kind == MLP_KIND_PROGRAM) {
		config->nr_features = 8;
		config->max_nodes = MLP_MAX_NODES;
	}
}

static int __init example_init(void)
{
	struct mlp_config config = base;
	struct mlproxy_desc desc = {
		.config = &config,
		.capacity = capacity,
		.rights = MLP_AGENT_TWINS,
		.clock = example_clock,
	};

	set_kind(&config);
	proxy = mlproxy_register(&desc);
	if (IS_ERR(proxy))
		return PTR_ERR(proxy);
	dir = debugfs_create_dir("mlproxy_example", NULL);
	debugfs_create_file("ops", 0200, dir, NULL, &ops_fops);
	debugfs_create_file("digest", 0400, dir, NULL, &digest_fops);
	debugfs_create_file("bench", 0400, dir, NULL, &bench_fops);
	debugfs_create_file("hammer", 0600, dir, NULL, &hammer_fops);
	return 0;
}

static void __exit example_exit(void)
{
	debugfs_remove_recursive(dir);	/* waits for calls under way */
	mlproxy_unregister(proxy);
}

module_init(example_init);
module_exit(example_exit);
MODULE_DESCRIPTION("Example of an in-kernel user of mlproxy");
MODULE_AUTHOR("The mlproxy authors");
MODULE_LICENSE("GPL");
