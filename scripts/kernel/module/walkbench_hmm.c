// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/walkbench_hmm: hmm_range_fault() on the memory of the program that asks, timed in the kernel.
 *
 * A request is a range of current->mm. It is mirrored as a driver would do it (Documentation/mm/hmm.rst): read_begin,
 * the mmap lock, hmm_range_fault, read_retry under the driver's lock, again after a collision. No device stands behind
 * it, so nothing is programmed, and nothing of a mirror outlives the request.
 *
 * What the caller gets to see of a page is what its own accesses would show it: present, writable, the order of the
 * mapping. Page frame numbers stay in the kernel. Everything in a request is untrusted.
 */
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/hmm.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/migrate.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "walkbench_hmm.h"

static_assert(sizeof(struct walkbench_hmm_walk) == 104);

/* As much of a driver as a mirror needs. */
struct mirror {
	struct mmu_interval_notifier notifier;
	struct mutex lock; /* the driver's lock: orders its page table against invalidations */
};

/* An open file. */
struct client {
	struct mutex lock; /* one LEARN_OWNER at a time */
	struct mmu_interval_notifier listener;
	bool listening;
	void *owner; /* dev_private_owner of its walks; only ever compared */
};

/* A request as it is worked on. */
struct request {
	struct walkbench_hmm_walk walk;
	bool locked; /* the mmap lock is held for all of it */
	struct mirror mirror;
	struct hmm_range range;
	unsigned long *pfns; /* nr_pages */
	u8 *bytes; /* nr_pages: the wishes, later the answers; NULL if there are neither */
	u64 *ns; /* repeats */
};

static bool invalidate(struct mmu_interval_notifier *notifier, const struct mmu_notifier_range *range,
		       unsigned long cur_seq)
{
	struct mirror *mirror = container_of(notifier, struct mirror, notifier);

	if (mmu_notifier_range_blockable(range))
		mutex_lock(&mirror->lock);
	else if (!mutex_trylock(&mirror->lock))
		return false;
	mmu_interval_set_seq(notifier, cur_seq);
	mutex_unlock(&mirror->lock);
	return true;
}

static const struct mmu_interval_notifier_ops mirror_ops = { .invalidate = invalidate };

/* In place of a pfn: this entry was not written. No pfn is as large. */
#define UNWRITTEN (~HMM_PFN_FLAGS)

static unsigned long to_hmm_flags(u32 wish)
{
	return (wish & WALKBENCH_HMM_REQ_FAULT ? HMM_PFN_REQ_FAULT : 0) |
	       (wish & WALKBENCH_HMM_REQ_WRITE ? HMM_PFN_REQ_WRITE : 0);
}

static u8 to_answer(unsigned long pfn)
{
	u8 answer;

	if ((pfn & UNWRITTEN) == UNWRITTEN)
		return WALKBENCH_HMM_UNWRITTEN;
	answer = (pfn & HMM_PFN_VALID ? WALKBENCH_HMM_VALID : 0) |
		 (pfn & HMM_PFN_WRITE ? WALKBENCH_HMM_WRITE : 0) |
		 (pfn & HMM_PFN_ERROR ? WALKBENCH_HMM_ERROR : 0);

	return answer | (u8)(hmm_pfn_to_map_order(pfn) << WALKBENCH_HMM_ORDER_SHIFT);
}

/* The answer of a call overwrote what stood in the array: a call needs its wishes anew, a second try too. */
static void prepare(struct request *r, size_t first, size_t nr)
{
	size_t i;

	if (!r->walk.wishes)
		return;
	for (i = first; i < first + nr; i++)
		r->pfns[i] = UNWRITTEN | to_hmm_flags(r->bytes[i]);
}

/* One call of the driver: the canonical loop. Drivers give up after HMM_RANGE_DEFAULT_TIMEOUT, so does this. */
static int mirror_call(struct request *r)
{
	unsigned long timeout = jiffies + msecs_to_jiffies(HMM_RANGE_DEFAULT_TIMEOUT);
	struct hmm_range *range = &r->range;
	struct mm_struct *mm = current->mm;
	size_t first = (range->start - r->walk.addr) >> PAGE_SHIFT;
	size_t nr = (range->end - range->start) >> PAGE_SHIFT;
	bool collided;
	int ret;

	do {
		if (signal_pending(current))
			return -EINTR;
		prepare(r, first, nr);
		range->notifier_seq = mmu_interval_read_begin(range->notifier);
		if (!r->locked)
			mmap_read_lock(mm);
		ret = hmm_range_fault(range);
		if (!r->locked)
			mmap_read_unlock(mm);
		r->walk.calls++;
		collided = ret == -EBUSY;
		if (!ret) {
			mutex_lock(&r->mirror.lock);
			collided = mmu_interval_read_retry(range->notifier, range->notifier_seq);
			/* Else a driver would program its device here. */
			mutex_unlock(&r->mirror.lock);
		}
		if (!collided)
			return ret;
		r->walk.busy++;
		cond_resched();
	} while (time_before(jiffies, timeout));
	return -EBUSY;
}

/* All of the range once. */
static int mirror_range(struct request *r)
{
	unsigned long start = r->walk.addr, end = start + (r->walk.nr_pages << PAGE_SHIFT);
	int ret;

	for (; start < end; start = r->range.end) {
		/* No overflow: call_pages is no more than nr_pages, and end was checked. */
		r->range.start = start;
		r->range.end = start + min_t(unsigned long, r->walk.call_pages << PAGE_SHIFT, end - start);
		r->range.hmm_pfns = r->pfns + ((start - r->walk.addr) >> PAGE_SHIFT);
		ret = mirror_call(r);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

/* Whether a request can be worked on; nothing was allocated yet. */
static int check(struct walkbench_hmm_walk *walk)
{
	const u32 known = WALKBENCH_HMM_REQ_FAULT | WALKBENCH_HMM_REQ_WRITE;
	u64 end;

	if (!walk->nr_pages || walk->nr_pages > WALKBENCH_HMM_MAX_PAGES)
		return -EINVAL;
	if (!walk->repeats || walk->repeats > WALKBENCH_HMM_MAX_REPEATS)
		return -EINVAL;
	if (walk->addr & ~PAGE_MASK || check_add_overflow(walk->addr, walk->nr_pages << PAGE_SHIFT, &end) ||
	    end > TASK_SIZE)
		return -EINVAL;
	if ((walk->default_flags | walk->pfn_flags_mask) & ~known)
		return -EINVAL;
	if (!walk->pfn_flags_mask != !walk->wishes)
		return -EINVAL;
	if (!walk->call_pages || walk->call_pages > walk->nr_pages)
		walk->call_pages = walk->nr_pages;
	if (!walk->nr_held)
		return walk->hold_flags ? -EINVAL : 0;
	if (walk->hold_flags & ~WALKBENCH_HMM_HOLD_MOVE)
		return -EINVAL;
	if (walk->nr_held > WALKBENCH_HMM_MAX_HELD || walk->hold & ~PAGE_MASK ||
	    check_add_overflow(walk->hold, walk->nr_held << PAGE_SHIFT, &end) || end > TASK_SIZE)
		return -EINVAL;
	return 0;
}

static int fill_wishes(struct request *r)
{
	if (!r->walk.wishes)
		return 0;
	return copy_from_user(r->bytes, u64_to_user_ptr(r->walk.wishes), r->walk.nr_pages) ? -EFAULT : 0;
}

static int give_answers(struct request *r)
{
	size_t i;

	if (r->walk.answers) {
		for (i = 0; i < r->walk.nr_pages; i++)
			r->bytes[i] = to_answer(r->pfns[i]);
		if (copy_to_user(u64_to_user_ptr(r->walk.answers), r->bytes, r->walk.nr_pages))
			return -EFAULT;
	}
	if (r->walk.ns &&
	    copy_to_user(u64_to_user_ptr(r->walk.ns), r->ns, array_size(r->walk.repeats, sizeof(*r->ns))))
		return -EFAULT;
	return 0;
}

static int repeat(struct request *r)
{
	int ret = 0;
	u32 i;

	for (i = 0; i < r->walk.repeats && !ret; i++) {
		u64 start = ktime_get_ns();

		ret = mirror_range(r);
		r->ns[i] = ktime_get_ns() - start;
	}
	return ret;
}

#if IS_ENABLED(CONFIG_DEVICE_MIGRATION)
/*
 * Pages halfway to a device: locked, unmapped, a migration entry in place of each. The walk has the mmap lock all the
 * while, so that the VMA stays; whoever ends the migration needs no more than that.
 */
struct migration {
	struct migrate_vma args;
	unsigned long *pfns;
	struct kthread_worker *watchman; /* NULL: nobody will wait */
	struct kthread_delayed_work watch;
	bool waited; /* the watch saw somebody wait and ended it */
};

static void end_migration(struct migration *m)
{
	migrate_vma_pages(&m->args);
	migrate_vma_finalize(&m->args);
}

/* Whether somebody sleeps until one of the pages is unlocked: at its migration entry, or at the page itself. */
static bool is_waited_for(const struct migration *m)
{
	unsigned long i;

	for (i = 0; i < m->args.npages; i++) {
		struct page *page = migrate_pfn_to_page(m->args.src[i]);

		if (page && folio_test_waiters(page_folio(page)))
			return true;
	}
	return false;
}

/*
 * Who faults waits for the end of a migration and cannot bring it about, so this looks for him, once a jiffy. The first
 * sleep ends the migration, and nothing else does. It is a real-time thread: where there is one processor, who was woken
 * by the first page goes on when the last one is done, and what a walk meets is no accident.
 */
static void watch(struct kthread_work *work)
{
	struct migration *m = container_of(work, struct migration, watch.work);

	if (!is_waited_for(m)) {
		kthread_queue_delayed_work(m->watchman, &m->watch, 1);
		return;
	}
	m->waited = true;
	end_migration(m);
}

static int start_watch(struct migration *m)
{
	struct kthread_worker *watchman = kthread_create_worker(0, "walkbench_hmm");

	if (IS_ERR(watchman))
		return PTR_ERR(watchman);
	sched_set_fifo(watchman->task);
	kthread_init_delayed_work(&m->watch, watch);
	m->watchman = watchman;
	return 0;
}

/* A page of a file would leave its buffers behind, one in the swap cache its slot. */
static bool may_move(struct page *page)
{
	return !page || (folio_test_anon(page_folio(page)) && !folio_test_swapcache(page_folio(page)));
}

/* Other memory of the system for pages that may move and for places without any. What gets none comes back. */
static void give_destinations(struct migration *m)
{
	unsigned long i;

	for (i = 0; i < m->args.npages; i++) {
		unsigned long src = m->args.src[i];
		struct page *from = migrate_pfn_to_page(src), *to;

		if (!(src & MIGRATE_PFN_MIGRATE) || !may_move(from))
			continue;
		to = alloc_page(from ? GFP_HIGHUSER_MOVABLE : GFP_HIGHUSER_MOVABLE | __GFP_ZERO);
		if (!to)
			continue;
		if (from)
			copy_highpage(to, from);
		lock_page(to);
		m->args.dst[i] = migrate_pfn(page_to_pfn(to));
	}
}

/* repeat() while pages are in migration. *refused says why none of this happened. */
static int repeat_held(struct request *r, int *refused)
{
	struct walkbench_hmm_walk *walk = &r->walk;
	struct mm_struct *mm = current->mm;
	struct migration *m;
	u64 i, held = 0;
	int ret = 0;

	*refused = -ENOMEM;
	m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);
	if (!m)
		return 0;
	m->pfns = kcalloc(2 * walk->nr_held, sizeof(*m->pfns), GFP_KERNEL_ACCOUNT);
	if (!m->pfns)
		goto out;
	/* A snapshot waits for nobody. */
	*refused = walk->default_flags || walk->pfn_flags_mask ? start_watch(m) : 0;
	if (*refused)
		goto out;
	m->args = (struct migrate_vma) {
		.src = m->pfns,
		.dst = m->pfns + walk->nr_held,
		.start = walk->hold,
		.end = walk->hold + (walk->nr_held << PAGE_SHIFT),
		.pgmap_owner = r->range.dev_private_owner,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	mmap_read_lock(mm);
	m->args.vma = vma_lookup(mm, m->args.start);
	*refused = m->args.vma ? migrate_vma_setup(&m->args) : -EINVAL;
	if (!*refused) {
		/* What was not there could move too, but is no entry. */
		for (i = 0; i < m->args.npages; i++)
			held += (m->args.src[i] & (MIGRATE_PFN_VALID | MIGRATE_PFN_MIGRATE)) ==
				(MIGRATE_PFN_VALID | MIGRATE_PFN_MIGRATE);
		walk->nr_held = held;
		if (walk->hold_flags & WALKBENCH_HMM_HOLD_MOVE)
			give_destinations(m);
		if (m->watchman)
			kthread_queue_delayed_work(m->watchman, &m->watch, 1);
		r->locked = true;
		ret = repeat(r);
		r->locked = false;
		if (m->watchman)
			kthread_cancel_delayed_work_sync(&m->watch);
		if (!m->waited)
			end_migration(m);
		walk->waited = m->waited;
	}
	mmap_read_unlock(mm);
	if (m->watchman)
		kthread_destroy_worker(m->watchman);
out:
	kfree(m->pfns);
	kfree(m);
	return ret;
}
#else
static int repeat_held(struct request *r, int *refused)
{
	*refused = -EOPNOTSUPP;
	return 0;
}
#endif

static int mirror_repeatedly(struct request *r, void *owner)
{
	struct walkbench_hmm_walk *walk = &r->walk;
	int refused = 0, ret;

	mutex_init(&r->mirror.lock);
	ret = mmu_interval_notifier_insert(&r->mirror.notifier, current->mm, walk->addr,
					   walk->nr_pages << PAGE_SHIFT, &mirror_ops);
	if (ret)
		return ret;
	r->range = (struct hmm_range) {
		.notifier = &r->mirror.notifier,
		.default_flags = to_hmm_flags(walk->default_flags),
		.pfn_flags_mask = to_hmm_flags(walk->pfn_flags_mask),
		/* Unless learned, an owner of nothing: a device's pages come back or are none. */
		.dev_private_owner = owner ?: &r->mirror,
	};
	ret = walk->nr_held ? repeat_held(r, &refused) : repeat(r);
	mmu_interval_notifier_remove(&r->mirror.notifier);
	if (refused)
		return refused;
	/* What hmm_range_fault says of the memory is an answer; that the caller was interrupted is none. */
	walk->result = ret;
	return ret == -EINTR ? ret : 0;
}

static long walk_ioctl(struct client *client, void __user *arg)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT;
	struct request *r;
	size_t i;
	long ret;

	r = kzalloc(sizeof(*r), gfp);
	if (!r)
		return -ENOMEM;
	ret = -EFAULT;
	if (copy_from_user(&r->walk, arg, sizeof(r->walk)))
		goto out;
	ret = check(&r->walk);
	if (ret)
		goto out;
	r->walk.calls = 0;
	r->walk.busy = 0;
	r->walk.waited = 0;
	ret = -ENOMEM;
	r->ns = kvcalloc(r->walk.repeats, sizeof(*r->ns), gfp);
	r->pfns = kvcalloc(r->walk.nr_pages, sizeof(*r->pfns), gfp);
	if (!r->ns || !r->pfns)
		goto out;
	if (r->walk.wishes || r->walk.answers) {
		r->bytes = kvzalloc(r->walk.nr_pages, gfp);
		if (!r->bytes)
			goto out;
	}
	for (i = 0; i < r->walk.nr_pages; i++)
		r->pfns[i] = UNWRITTEN;
	ret = fill_wishes(r);
	if (!ret)
		ret = mirror_repeatedly(r, READ_ONCE(client->owner));
	if (!ret)
		ret = give_answers(r);
	if (!ret && copy_to_user(arg, &r->walk, sizeof(r->walk)))
		ret = -EFAULT;
out:
	kvfree(r->bytes);
	kvfree(r->pfns);
	kvfree(r->ns);
	kfree(r);
	return ret;
}

/* A migration says whose it is to those who are told of it. */
static bool hear(struct mmu_interval_notifier *notifier, const struct mmu_notifier_range *range, unsigned long cur_seq)
{
	struct client *client = container_of(notifier, struct client, listener);

	mmu_interval_set_seq(notifier, cur_seq);
	if (range->event == MMU_NOTIFY_MIGRATE && range->owner)
		WRITE_ONCE(client->owner, range->owner);
	return true;
}

static const struct mmu_interval_notifier_ops listener_ops = { .invalidate = hear };

static void stop_listening(struct client *client)
{
	if (client->listening)
		mmu_interval_notifier_remove(&client->listener);
	client->listening = false;
}

static long learn_owner(struct client *client, u64 addr)
{
	long ret = 0;

	if (addr & ~PAGE_MASK || addr >= TASK_SIZE)
		return -EINVAL;
	mutex_lock(&client->lock);
	stop_listening(client);
	if (addr) {
		WRITE_ONCE(client->owner, NULL);
		ret = mmu_interval_notifier_insert(&client->listener, current->mm, addr, PAGE_SIZE, &listener_ops);
		client->listening = !ret;
	} else if (!client->owner) {
		ret = -ENODATA;
	}
	mutex_unlock(&client->lock);
	return ret;
}

static long walkbench_hmm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct client *client = file->private_data;
	void __user *to = (void __user *)arg;
	u64 addr;

	/* A kernel thread has no memory of its own to ask about. */
	if (!current->mm)
		return -EINVAL;
	switch (cmd) {
	case WALKBENCH_HMM_GET_VERSION:
		return put_user((u32)WALKBENCH_HMM_VERSION, (u32 __user *)to);
	case WALKBENCH_HMM_WALK:
		return walk_ioctl(client, to);
	case WALKBENCH_HMM_LEARN_OWNER:
		if (copy_from_user(&addr, to, sizeof(addr)))
			return -EFAULT;
		return learn_owner(client, addr);
	}
	return -ENOTTY;
}

static int walkbench_hmm_open(struct inode *inode, struct file *file)
{
	struct client *client = kzalloc(sizeof(*client), GFP_KERNEL_ACCOUNT);

	if (!client)
		return -ENOMEM;
	mutex_init(&client->lock);
	file->private_data = client;
	return 0;
}

static int walkbench_hmm_release(struct inode *inode, struct file *file)
{
	struct client *client = file->private_data;

	stop_listening(client);
	kfree(client);
	return 0;
}

static const struct file_operations walkbench_hmm_fops = {
	.owner = THIS_MODULE,
	.open = walkbench_hmm_open,
	.release = walkbench_hmm_release,
	.unlocked_ioctl = walkbench_hmm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice walkbench_hmm_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "walkbench_hmm",
	.fops = &walkbench_hmm_fops,
	/* Root decides who may spend kernel time with it. */
	.mode = 0600,
};

module_misc_device(walkbench_hmm_device);

MODULE_DESCRIPTION("hmm_range_fault on the caller's own memory, timed in the kernel");
MODULE_AUTHOR("The walkbench authors");
MODULE_LICENSE("GPL");
