// SPDX-License-Identifier: GPL-2.0-only
/*
 * Wrong input of every kind for /dev/mlproxy: each ioctl, mmap, poll, open and
 * close, on files in every state, from one thread and then from several.
 *
 *	fuzz SEED INPUTS EXAMPLE.ko
 *
 * Every answer must be one that mlproxy_ioctl.h documents, and every refused
 * recommendation counted. Prints "name value" lines; status 1 and a line on
 * stderr at the first violation. Needs root; the example module not loaded.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "inputs.h"

#define SLOTS		12
#define MAPS		8
#define THREADS		3
#define PAGE		4096UL
#define CALLS		21
#define LARGEST		8192	/* beyond any argument */

/* An open file and what is known of it. */
struct slot {
	int fd;
	int has;			/* a proxy */
	int attached;
	struct mlp_config config;
	__u64 seq, now;
	__u64 refused[MLP_REJECT_NR];
	int started;
	int renewed;			/* its ring may hold older records */
};

static struct slot slots[SLOTS];
static struct { unsigned char *at; size_t len; } maps[MAPS];
static int knobs[8], example = -1, together;
static const char *example_path;
static unsigned char *edge;		/* a page, then none */
static unsigned char *read_only;
static __u64 seen[CALLS + 1][256], rejects[MLP_REJECT_NR], inputs, accepted, mapped, orphans;

#define FAIL(...) do {							\
	fprintf(stderr, "fuzz.c:%d: ", __LINE__);			\
	fprintf(stderr, __VA_ARGS__);					\
	fprintf(stderr, " (input %llu)\n", (unsigned long long)inputs);	\
	exit(1);							\
} while (0)

static const unsigned long commands[CALLS] = {
	MLP_IOC_INFO, MLP_IOC_CREATE, MLP_IOC_ATTACH, MLP_IOC_REINIT, MLP_IOC_START,
	MLP_IOC_STOP, MLP_IOC_HEARTBEAT, MLP_IOC_TICK, MLP_IOC_SUBMIT, MLP_IOC_SET_MODE,
	MLP_IOC_OPERATOR, MLP_IOC_CRITICAL, MLP_IOC_CONSUME, MLP_IOC_WATERMARK,
	MLP_IOC_SNAPSHOT, MLP_IOC_DECIDE, MLP_IOC_RANK, MLP_IOC_REPORT,
	MLP_IOC_REPORT_TWIN, MLP_IOC_PUBLISH, MLP_IOC_KNOBS,
};

/* What the header documents beside what every call may give. */
static const int documented[CALLS][12] = {
	[_IOC_NR(MLP_IOC_CREATE)] = { EEXIST, EPROTONOSUPPORT, EISCONN, EPERM, EBADF,
				      EOPNOTSUPP, ERANGE, EBUSY },
	[_IOC_NR(MLP_IOC_ATTACH)] = { EPROTONOSUPPORT, ENOENT, EBUSY, EISCONN },
	[_IOC_NR(MLP_IOC_REINIT)] = { EBUSY, EPERM },
	[_IOC_NR(MLP_IOC_START)] = { EBUSY },
	[_IOC_NR(MLP_IOC_SET_MODE)] = { EBUSY, EPERM },
	[_IOC_NR(MLP_IOC_OPERATOR)] = { EBUSY, EPERM },
	[_IOC_NR(MLP_IOC_DECIDE)] = { EPERM },
	[_IOC_NR(MLP_IOC_RANK)] = { EPERM },
	[_IOC_NR(MLP_IOC_REPORT)] = { EPERM },
	[_IOC_NR(MLP_IOC_REPORT_TWIN)] = { EPERM },
	[_IOC_NR(MLP_IOC_PUBLISH)] = { EPERM },
	[_IOC_NR(MLP_IOC_KNOBS)] = { ENOENT },
};

static const int errno_of[MLP_REJECT_NR] = {
	0, EPROTO, EPROTOTYPE, ERANGE, ETIME, EOVERFLOW, EALREADY, ENXIO, EEXIST, EMSGSIZE,
	EBADSLT, ELOOP, E2BIG, ERANGE, EINVAL, EKEYREJECTED, ESHUTDOWN,
};

static int is_documented(unsigned int nr, int error)
{
	const int *list = documented[nr];
	int i;

	if (error == EFAULT || error == EINVAL || error == ENODEV || error == ENOMEM ||
	    (error == ENOTCONN && nr > _IOC_NR(MLP_IOC_ATTACH)))
		return 1;
	for (i = 0; list[i]; i++)
		if (list[i] == error)
			return 1;
	return 0;
}

static int call(int fd, unsigned long cmd, void *arg)
{
	__atomic_add_fetch(&inputs, 1, __ATOMIC_RELAXED);
	return ioctl(fd, cmd, arg) < 0 ? errno : 0;
}

static void note(unsigned int nr, int error)
{
	__atomic_add_fetch(&seen[nr][error & 255], 1, __ATOMIC_RELAXED);
}

/* The thread keeps or loses CAP_SYS_ADMIN. */
static void set_admin(int on)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data))
		FAIL("capget: %m");
	data[0].effective = data[0].permitted;
	if (!on)
		data[0].effective &= ~(1U << CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &head, data))
		FAIL("capset: %m");
}

static void look(struct slot *s)
{
	struct mlp_ioc_snapshot a = { .now = s->now };
	const struct mlp_snapshot *o = &a.snapshot;
	static const __u32 mode_of[MLP_STATE_NR] = { 0, 0, 1, 1, 2, 3 };
	int i, error = call(s->fd, MLP_IOC_SNAPSHOT, &a);

	if (error == ENODEV || error == ENOTCONN)
		return;
	if (error)
		FAIL("snapshot: %s", strerror(error));
	if (o->state >= MLP_STATE_NR || o->mode != mode_of[o->state] ||
	    o->reason >= MLP_REASON_NR || o->latched > 1 || o->operator_hold > 1 ||
	    o->ring_lost > o->ring_head || o->budget_used < 0)
		FAIL("snapshot: state %u mode %u reason %u", o->state, o->mode, o->reason);
	for (i = 0; i < 4; i++)
		if (o->reserved[i])
			FAIL("snapshot: reserved is not zero");
	for (i = MLP_REJECT_NR; i < MLP_REJECT_SLOTS; i++)
		if (o->rejected[i])
			FAIL("snapshot: a rejection without a reason");
	for (i = 0; !together && i < MLP_REJECT_NR; i++)
		if (o->rejected[i] != s->refused[i])
			FAIL("rejected[%d] is %llu, %llu were refused", i, o->rejected[i],
			     s->refused[i]);
	if (!together && o->now != s->now && !s->attached && o->now < s->now)
		FAIL("snapshot: time is %llu", o->now);
}

/* What was refused before this agent came. */
static void take_stock(struct slot *s)
{
	struct mlp_ioc_snapshot a = { .now = s->now };

	if (!call(s->fd, MLP_IOC_SNAPSHOT, &a))
		memcpy(s->refused, a.snapshot.rejected, sizeof(s->refused));
}

static void reopen(struct slot *s)
{
	if (together)		/* others use it */
		return;
	if (s->fd >= 0)
		close(s->fd);
	memset(s, 0, sizeof(*s));
	s->fd = open("/dev/mlproxy", O_RDWR | O_CLOEXEC);
	if (s->fd < 0)
		FAIL("open: %m");
}

static void fill_knobs(struct mlp_ioc_create *c, struct mlp_knob *k, __s64 *settings)
{
	__u32 i, j;

	c->nr_knobs = 1 + (__u32)below(3);
	c->knobs = (unsigned long)k;
	c->clock = MLP_CLOCK_MONOTONIC;
	c->config.trial = MLP_TRIAL_SWITCHBACK;
	c->config.kind = once_in(2) ? MLP_KIND_VALUE : MLP_KIND_CHOICE;
	c->config.nr_features = 0;
	c->config.nr_streams = 1;
	c->config.epoch = 1000000 + below(50000000);
	memset(k, 0, 9 * sizeof(*k));
	for (i = 0; i < 9; i++) {
		k[i].fd = once_in(4) ? knobs[below(8)] : knobs[i % 3];
		k[i].max = 200;
		strcpy(k[i].restore, "100\n");
		if (once_in(10))
			spoil(&k[i], sizeof(*k));
	}
	if (c->config.kind == MLP_KIND_VALUE)
		c->nr_knobs = 1;
	else
		c->settings = (unsigned long)settings;
	c->nr_settings = c->config.kind == MLP_KIND_VALUE ? 0 : (__u32)c->config.max + 1;
	for (i = 0; i < 64; i++)
		for (j = 0; j < 8; j++)
			settings[i * 8 + j] = once_in(40) ? (__s64)boundary() : 50 + (__s64)i;
}

/* A valid argument of each call, as far as the file's state allows one. */
static void fill(struct slot *s, unsigned int nr, void *arg, unsigned char *side)
{
	union {
		struct mlp_ioc_create create;
		struct mlp_ioc_attach attach;
		struct mlp_ioc_reinit reinit;
		struct mlp_ioc_time time;
		struct mlp_ioc_mode mode;
		struct mlp_ioc_switch on_off;
		struct mlp_ioc_submit submit;
		struct mlp_ioc_consume consume;
		struct mlp_ioc_watermark watermark;
		struct mlp_ioc_snapshot snapshot;
		struct mlp_ioc_decide decide;
		struct mlp_ioc_rank rank;
		struct mlp_ioc_report report;
		struct mlp_ioc_twin twin;
		struct mlp_ioc_publish publish;
	} *a = arg;
	__u64 now = s->now += below(1000);

	memset(a, 0, LARGEST);
	switch (commands[nr]) {
	case MLP_IOC_CREATE:
		a->create.abi_version = MLP_ABI_VERSION;
		a->create.clock = (__u32)below(2);
		a->create.capacity = 1U << below(12);
		a->create.config = any_config();
		if (once_in(3))
			fill_knobs(&a->create, (void *)side, (void *)(side + 4096));
		break;
	case MLP_IOC_ATTACH:
		a->attach.abi_version = MLP_ABI_VERSION;
		strcpy(a->attach.name, once_in(8) ? "fa" : "example");
		a->attach.watchdog = once_in(2) ? boundary() : 0;
		break;
	case MLP_IOC_REINIT:
		a->reinit.config = once_in(8) ? any_config() : s->config;
		a->reinit.now = now;
		break;
	case MLP_IOC_STOP:
		a->mode.reason = (__u32)below(MLP_REASON_NR);
		a->mode.now = now;
		break;
	case MLP_IOC_SET_MODE:
		a->mode.mode = (__u32)below(4);
		a->mode.reason = (__u32)below(MLP_REASON_NR);
		a->mode.now = now;
		break;
	case MLP_IOC_OPERATOR:
	case MLP_IOC_CRITICAL:
		a->on_off.on = once_in(3);
		a->on_off.now = now;
		break;
	case MLP_IOC_SUBMIT:
		a->submit.data = (unsigned long)side;
		a->submit.length = (__u32)any_recommendation(&s->config, ++s->seq, now, side);
		a->submit.now = now;
		break;
	case MLP_IOC_CONSUME:
		a->consume.upto = below(200);
		break;
	case MLP_IOC_WATERMARK:
		a->watermark.records = 1 + (__u32)below(8);
		break;
	case MLP_IOC_DECIDE:
		a->decide.unit = draw();
		a->decide.now = now;
		a->decide.stream = (__u32)below(5);
		memcpy(a->decide.features, side, sizeof(a->decide.features));
		break;
	case MLP_IOC_RANK:
		a->rank.unit = draw();
		a->rank.now = now;
		a->rank.max = (__u32)below(65);
		break;
	case MLP_IOC_REPORT:
		a->report.arm = (__u32)below(2);
		a->report.cost = once_in(8) ? (__s64)boundary() : 1000 - 200 * a->report.arm;
		a->report.now = now;
		break;
	case MLP_IOC_REPORT_TWIN:
		a->twin.cost_default = 1000;
		a->twin.cost_model = once_in(8) ? (__s64)boundary() : 800;
		a->twin.now = now;
		break;
	case MLP_IOC_PUBLISH:
		a->publish.record.type = once_in(3) ? MLP_RECORD_SAMPLE : MLP_RECORD_LABEL;
		break;
	case MLP_IOC_START:
	case MLP_IOC_HEARTBEAT:
	case MLP_IOC_TICK:
	case MLP_IOC_SNAPSHOT:
		a->time.now = now;
		break;
	}
}

/* What follows from an answer for what is known of the file. */
static void follow(struct slot *s, unsigned int nr, const void *arg, int error)
{
	const struct mlp_ioc_create *create = arg;
	const struct mlp_ioc_attach *attach = arg;

	switch (commands[nr]) {
	case MLP_IOC_CREATE:
		if (error)
			break;
		s->has = 1;
		s->config = create->config;
		if (create->capacity > 65536)
			reopen(s);
		break;
	case MLP_IOC_ATTACH:
		if (error)
			break;
		s->has = s->attached = 1;
		s->config = attach->config;
		take_stock(s);
		break;
	case MLP_IOC_START:
		s->started |= !error || error == EBUSY;
		break;
	case MLP_IOC_STOP:
		s->started &= !!error;
		break;
	case MLP_IOC_REINIT:
		if (error)
			break;
		memset(s->refused, 0, sizeof(s->refused));
		s->renewed = 1;
		break;
	}
}

static void check_submit(struct slot *s, const struct mlp_ioc_submit *a, int error)
{
	if (error == EFAULT || error == ENODEV || error == ENOMEM || error == ENOTCONN)
		return;
	if (a->reserved) {
		if (error != EINVAL)
			FAIL("submit with a reserved field: %s", strerror(error));
		return;
	}
	if (a->reject >= MLP_REJECT_NR || errno_of[a->reject] != error)
		FAIL("submit: reject %u, errno %s", a->reject, strerror(error));
	__atomic_add_fetch(error ? &rejects[a->reject] : &accepted, 1, __ATOMIC_RELAXED);
	if (error)
		__atomic_add_fetch(&s->refused[a->reject], 1, __ATOMIC_RELAXED);
}

/* Where arguments may lie that are not what they seem. */
static void *bad_pointer(void)
{
	switch (below(6)) {
	case 0:
		return NULL;
	case 1:
		return (void *)0xffff888000000000UL;
	case 2:
		return (void *)0x7fffffffe000UL;
	case 3:
		return edge + PAGE - 1 - below(64);
	case 4:
		return (void *)draw();
	default:
		return read_only;
	}
}

static void one_ioctl(struct slot *s)
{
	static __thread unsigned char arg[LARGEST] __attribute__((aligned(16)));
	static __thread unsigned char side[BODY + 65536] __attribute__((aligned(16)));
	unsigned int nr = (unsigned int)below(CALLS), admin = !once_in(10);
	unsigned long cmd;
	struct mlp_ioc_submit *submit = (void *)arg;
	void *where = arg;
	int error, spoilt = 0, i;

	/* Most calls want a proxy, and most interesting is what is submitted. */
	if (!s->has && !once_in(4))
		nr = once_in(2) ? _IOC_NR(MLP_IOC_CREATE) : _IOC_NR(MLP_IOC_ATTACH);
	else if (s->has && !s->started && !once_in(4))
		nr = _IOC_NR(MLP_IOC_START);
	else if (s->has && once_in(3))
		nr = _IOC_NR(MLP_IOC_SUBMIT);
	else if (nr == _IOC_NR(MLP_IOC_STOP) && !once_in(8))
		nr = _IOC_NR(MLP_IOC_DECIDE);
	cmd = commands[nr];
	fill(s, nr, arg, side);
	if (once_in(8)) {
		spoil(arg, _IOC_SIZE(cmd));
	} else if (once_in(12)) {
		cmd = once_in(2) ? draw() & 0xffffffff :
		      _IOC(_IOC_DIR(cmd), MLP_IOC_MAGIC, once_in(2) ? nr : below(256),
			   (_IOC_SIZE(cmd) + 1 + below(64)) & 0x3fff);
		for (i = 0, spoilt = 1; i < CALLS; i++)
			if (cmd == commands[i])
				return;		/* another call by chance */
	} else if (once_in(12)) {
		where = bad_pointer();
	} else if (nr == _IOC_NR(MLP_IOC_SUBMIT) && once_in(12)) {
		if (once_in(2))
			submit->data = (unsigned long)bad_pointer();
		else
			submit->length = (__u32)boundary();
	}
	if (commands[nr] == MLP_IOC_CREATE && !spoilt && where == arg &&
	    ((struct mlp_ioc_create *)arg)->capacity > 65536 && !once_in(50))
		return;		/* up to 128 MiB each: now and then is enough */
	if (!admin)
		set_admin(0);
	error = call(s->fd, cmd, where);
	if (!admin)
		set_admin(1);
	if (spoilt) {
		note(CALLS, error);
		if (error != ENOTTY)
			FAIL("number %lx: %s", cmd, strerror(error));
		return;
	}
	note(nr, error);
	if (nr == _IOC_NR(MLP_IOC_SUBMIT)) {
		if (where == arg)
			check_submit(s, submit, error);
		else
			take_stock(s);	/* it may lie where it can be read, but not answered */
		return;
	}
	if (error && !is_documented(nr, error))
		FAIL("call %u: %s", nr, strerror(error));
	if (!admin && !error && cmd == MLP_IOC_OPERATOR && !((struct mlp_ioc_switch *)arg)->on &&
	    where == arg)
		FAIL("an operator's release without CAP_SYS_ADMIN");
	if (where == arg)
		follow(s, nr, arg, error);
	else if (!error || error == EFAULT)
		reopen(s);	/* whatever it did is not known here */
}

static void one_map(struct slot *s)
{
	static const int prots[] = { PROT_READ, PROT_READ, PROT_READ, PROT_NONE, PROT_WRITE,
				     PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC };
	int prot = prots[below(7)], flags = once_in(4) ? MAP_PRIVATE : MAP_SHARED;
	size_t len = once_in(4) ? boundary() & ((1ULL << 47) - 1) : PAGE * (1 + below(70));
	__u64 offset = once_in(5) ? PAGE * boundary() & ((1ULL << 50) - 1) : 0;
	const struct mlp_ring_meta *meta;
	unsigned char *at;
	size_t room;

	__atomic_add_fetch(&inputs, 1, __ATOMIC_RELAXED);
	at = mmap(NULL, len, prot, flags, s->fd, (off_t)offset);
	if (at == MAP_FAILED) {
		if (errno != EINVAL && errno != EACCES && errno != ENOTCONN && errno != ENOMEM &&
		    errno != EOVERFLOW && errno != EPERM)
			FAIL("mmap: %m");
		return;
	}
	__atomic_add_fetch(&mapped, 1, __ATOMIC_RELAXED);
	if (prot & (PROT_WRITE | PROT_EXEC) || offset)
		FAIL("mmap with protection %d, offset %llu", prot, offset);
	if (!mprotect(at, len, PROT_READ | PROT_WRITE) || errno != EACCES)
		FAIL("a mapping became writable");
	if (prot == PROT_READ) {
		meta = (void *)at;
		room = PAGE + meta->capacity * sizeof(struct mlp_record);
		if (meta->magic != MLP_MAGIC || len > ((room + PAGE - 1) & ~(PAGE - 1)))
			FAIL("mapped %zu bytes of %u records", len, meta->capacity);
		if (len > PAGE && at[len - 1] && !meta->head && !s->renewed && !s->attached)
			FAIL("a ring that was never written is not zero");
	}
	if (!together && prot == PROT_READ && once_in(3)) {
		unsigned int i = (unsigned int)below(MAPS);

		if (maps[i].at)
			munmap(maps[i].at, maps[i].len);
		maps[i].at = at;	/* stays, whatever becomes of the file */
		maps[i].len = len;
		return;
	}
	munmap(at, len);
}

static void one_poll(struct slot *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };

	if (poll(&p, 1, 0) < 0 || p.revents & ~(POLLIN | POLLHUP | POLLERR))
		FAIL("poll: %x", p.revents);
	if (s->has && !s->attached && p.revents & POLLHUP)
		FAIL("poll: a proxy of its own is gone");
	if (p.revents & POLLHUP)
		orphans++;
}

static void load_example(void)
{
	char parameters[64];

	if (example >= 0) {
		if (syscall(SYS_delete_module, "mlproxy_example", O_NONBLOCK))
			FAIL("rmmod mlproxy_example: %m");
		close(example);
		example = -1;
		return;
	}
	example = open(example_path, O_RDONLY | O_CLOEXEC);
	snprintf(parameters, sizeof(parameters), "kind=%d twin_gate=%d capacity=64",
		 1 + (int)below(4), (int)below(2));
	if (syscall(SYS_finit_module, example, parameters, 0))
		FAIL("insmod %s: %m", example_path);
}

static void step(void)
{
	struct slot *s = &slots[below(SLOTS)];
	__u64 what = below(100);

	if (what < 84) {
		one_ioctl(s);
	} else if (what < 90) {
		one_map(s);
	} else if (what < 94) {
		one_poll(s);
	} else if (what < 96) {
		char buffer[16];

		if (read(s->fd, buffer, sizeof(buffer)) >= 0 || errno != EINVAL ||
		    write(s->fd, buffer, sizeof(buffer)) >= 0 || errno != EINVAL ||
		    lseek(s->fd, 1, SEEK_SET) >= 0 || errno != ESPIPE)
			FAIL("read, write or lseek: %m");
	} else if (what < 99) {
		look(s);
	} else if (!together) {
		look(s);
		reopen(s);
	}
}

static void *worker(void *seed)
{
	__u64 end = inputs + *(__u64 *)seed;	/* as many for each */

	rng = (unsigned long)seed;
	while (inputs < end)
		step();
	return NULL;
}

static void open_all(void)
{
	int i;

	knobs[0] = open("/proc/sys/vm/vfs_cache_pressure", O_RDWR);
	knobs[1] = open("/proc/sys/vm/dirty_background_ratio", O_RDWR);
	knobs[2] = open("/proc/sys/kernel/printk_ratelimit_burst", O_RDWR);
	knobs[3] = open("/proc/sys/vm/swappiness", O_RDONLY);
	knobs[4] = open("/dev/null", O_RDWR);
	knobs[5] = open("/proc/self/comm", O_RDWR);
	knobs[6] = open("/sys", O_PATH);
	knobs[7] = open("/dev/mlproxy", O_RDWR);
	edge = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(edge + PAGE, PAGE);
	read_only = mmap(NULL, LARGEST, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (i = 0; i < SLOTS; i++) {
		slots[i].fd = -1;
		reopen(&slots[i]);
	}
}

static void say(void)
{
	int nr, error, codes = 0, i;
	__u64 sum = 0;

	for (nr = 0; nr <= CALLS; nr++)
		for (error = 0; error < 256; error++)
			codes += !!seen[nr][error];
	for (nr = 0; nr < CALLS; nr++)
		printf("succeeded_%d %llu\n", nr, (unsigned long long)seen[nr][0]);
	for (i = 1; i < MLP_REJECT_NR; i++) {
		printf("reject_%d %llu\n", i, (unsigned long long)rejects[i]);
		sum += rejects[i];
	}
	printf("inputs %llu\naccepted %llu\nrefused %llu\nmapped %llu\norphans %llu\nanswers %d\n",
	       (unsigned long long)inputs, (unsigned long long)accepted,
	       (unsigned long long)sum, (unsigned long long)mapped,
	       (unsigned long long)orphans, codes);
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	__u64 shares[THREADS], all, turns = 0;
	int i;

	if (argc != 4)
		return 2;
	rng = strtoull(argv[1], NULL, 0);
	all = strtoull(argv[2], NULL, 0);
	example_path = argv[3];
	open_all();
	while (inputs < all / 10 * 7) {
		if (!(turns++ % 2000))
			load_example();
		step();
	}
	for (i = 0; i < SLOTS; i++)
		look(&slots[i]);
	together = 1;
	for (i = 0; i < THREADS; i++) {
		shares[i] = all - inputs;
		if (pthread_create(&threads[i], NULL, worker, &shares[i]))
			FAIL("pthread_create");
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < SLOTS; i++) {
		look(&slots[i]);
		close(slots[i].fd);
	}
	for (i = 0; i < MAPS; i++)
		if (maps[i].at && ((struct mlp_ring_meta *)maps[i].at)->magic != MLP_MAGIC)
			FAIL("a mapping has lost its ring");
	if (example >= 0)
		load_example();
	say();
	return 0;
}
