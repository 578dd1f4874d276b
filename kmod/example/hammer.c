// SPDX-License-Identifier: GPL-2.0-only
/*
 * Decisions and outcomes from many threads and from interrupts at once, while
 * the agent comes and goes; every call is counted here, so that a test can hold
 * the proxy's own counters against it.
 *
 * Whatever the agent submits must make the proxy act by version % 8: then an
 * action that is not its version's comes from two recommendations, mixed.
 */
#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/string.h>
#include "example.h"

#define REPORT_EVERY	16
#define LABEL_EVERY	32
#define TICK_EVERY	64
#define CRITICAL_EVERY	4096
#define INTERRUPT_EVERY	1024

struct hammer {
	struct mlproxy *proxy;
	atomic64_t *clock;
	u32 calls;
	atomic_t running;
	struct completion done;
};

static struct {
	atomic64_t standard, model;	/* decisions, by arm */
	atomic64_t reports, labels;
	atomic64_t interrupts;		/* decisions that were made in one */
	atomic64_t mixed;		/* decisions that no recommendation explains */
} counts;

static void decide(struct hammer *h, u64 unit)
{
	struct mlp_decision decision;
	s32 features[MLP_MAX_FEATURES];
	u32 i;

	for (i = 0; i < MLP_MAX_FEATURES; i++)
		features[i] = (s32)(unit * 7 + i * 131) % 1000;
	mlproxy_decide(h->proxy, 0, features, unit, MLP_EXAMPLE_DEFAULT, &decision);
	if (decision.arm == MLP_ARM_MODEL) {
		atomic64_inc(&counts.model);
		if (decision.action != decision.model_version % 8)
			atomic64_inc(&counts.mixed);
	} else {
		atomic64_inc(&counts.standard);
		if (decision.action != MLP_EXAMPLE_DEFAULT || decision.model_version)
			atomic64_inc(&counts.mixed);
	}
}

static void interrupt(void *data)
{
	struct hammer *h = data;

	atomic64_inc(&counts.interrupts);
	decide(h, (u64)atomic64_read(h->clock));
}

static void one(struct hammer *h, u32 i)
{
	struct mlp_record label = { .type = MLP_RECORD_LABEL };
	u64 unit = (u64)atomic64_inc_return(h->clock);

	decide(h, unit);
	if (!(i % REPORT_EVERY)) {
		mlproxy_report(h->proxy, unit & 1, unit, 1000000 + (s64)(unit % 1000));
		atomic64_inc(&counts.reports);
	}
	if (!(i % LABEL_EVERY)) {
		label.unit = unit;
		mlproxy_publish(h->proxy, &label);
		atomic64_inc(&counts.labels);
	}
	if (!(i % TICK_EVERY))
		mlproxy_tick(h->proxy);
	if (!(i % CRITICAL_EVERY)) {
		mlproxy_critical(h->proxy, true);
		mlproxy_critical(h->proxy, false);
	}
	if (!(i % INTERRUPT_EVERY))
		on_each_cpu(interrupt, h, 1);
}

static int work(void *data)
{
	struct hammer *h = data;
	u32 i;

	for (i = 0; i < h->calls; i++) {
		one(h, i);
		cond_resched();
	}
	if (atomic_dec_and_test(&h->running))
		complete(&h->done);
	/* Until it is joined: no thread may be in this code when the module goes. */
	set_current_state(TASK_INTERRUPTIBLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_INTERRUPTIBLE);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

/**
 * mlp_example_hammer - make @calls rounds of calls in each of @threads threads
 * @proxy: the proxy
 * @clock: its time, which the calls let pass
 * @threads: how many
 * @calls: rounds in each
 *
 * Returns when all have ended; 0, or why a thread could not be started.
 */
int mlp_example_hammer(struct mlproxy *proxy, atomic64_t *clock, u32 threads, u32 calls)
{
	struct hammer h = { .proxy = proxy, .clock = clock, .calls = calls };
	struct task_struct *tasks[MLP_EXAMPLE_THREADS];
	u32 nr, i;
	int err = 0;

	if (threads > ARRAY_SIZE(tasks))
		return -EINVAL;

	memset(&counts, 0, sizeof(counts));
	init_completion(&h.done);
	atomic_set(&h.running, 1);	/* this one, until all have been started */
	for (nr = 0; nr < threads; nr++) {
		atomic_inc(&h.running);
		tasks[nr] = kthread_run(work, &h, "mlp_hammer/%u", nr);
		if (IS_ERR(tasks[nr])) {
			err = PTR_ERR(tasks[nr]);
			atomic_dec(&h.running);
			break;
		}
	}
	if (!atomic_dec_and_test(&h.running))
		wait_for_completion(&h.done);
	for (i = 0; i < nr; i++)
		kthread_stop(tasks[i]);
	return err;
}

void mlp_example_hammered(struct seq_file *out)
{
	seq_printf(out, "default %lld\nmodel %lld\nreports %lld\nlabels %lld\n",
		   atomic64_read(&counts.standard), atomic64_read(&counts.model),
		   atomic64_read(&counts.reports), atomic64_read(&counts.labels));
	seq_printf(out, "interrupts %lld\nmixed %lld\n",
		   atomic64_read(&counts.interrupts), atomic64_read(&counts.mixed));
}
