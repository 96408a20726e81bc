//! Has work done on several threads, and hands out what comes of it in the order in which it was given.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The most threads: beyond, ciphers and the disk are what takes the time.
const THREADS_MAX: usize = 4;
/// Jobs that may be under way for each thread.
const QUEUE: usize = 3;

/// Some threads that work. Dropping it ends them.
pub(super) struct InOrder<Job, Done> {
    jobs: Option<Sender<(Job, SyncSender<Done>)>>,
    threads: Vec<JoinHandle<()>>,
    queue: VecDeque<Receiver<Done>>,
}

impl<Job: Send + 'static, Done: Send + 'static> InOrder<Job, Done> {
    /// Starts a thread for each processor, each with a worker of its own; `None` where there is one only, or none can be started.
    pub fn start<Worker>(name: &str, worker: fn() -> Worker) -> Option<Self>
    where
        Worker: FnMut(Job) -> Done + 'static,
    {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let start = |_| {
            let receiver = receiver.clone();
            std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&receiver, worker())).ok()
        };
        let threads: Vec<_> = if count > 1 { (0..count).map_while(start).collect() } else { Vec::new() };
        (!threads.is_empty()).then(|| Self { jobs: Some(sender), threads, queue: VecDeque::new() })
    }

    /// Whether all that was given has been handed out.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Gives the next job.
    pub fn add(&mut self, job: Job) {
        let (reply, answer) = sync_channel(1);
        let jobs = self.jobs.as_ref().expect("there is a sender until this is dropped");
        jobs.send((job, reply)).expect("the threads take jobs for as long as there is a sender");
        self.queue.push_back(answer);
    }

    /// Hands out what came of the next job, if that is ready, or if enough are under way: then waits for it.
    pub fn next_due(&mut self) -> Option<Done> {
        if self.queue.len() > QUEUE * self.threads.len() {
            return self.next();
        }
        match self.queue.front()?.try_recv() {
            Err(TryRecvError::Empty) => None,
            answer => {
                self.queue.pop_front();
                Some(answer.expect(ANSWERED))
            }
        }
    }

    /// Hands out what came of the next job; waits for it.
    pub fn next(&mut self) -> Option<Done> {
        Some(self.queue.pop_front()?.recv().expect(ANSWERED))
    }
}

const ANSWERED: &str = "a thread answers every job";

impl<Job, Done> Drop for InOrder<Job, Done> {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic in one was noticed where its answer was waited for.
            let _ = thread.join();
        }
    }
}

fn work<Job, Done>(jobs: &Mutex<Receiver<(Job, SyncSender<Done>)>>, mut worker: impl FnMut(Job) -> Done) {
    loop {
        let job = jobs.lock().expect("nothing panics with the lock held").recv();
        let Ok((job, reply)) = job else { return };
        // Nobody may want it any more.
        let _ = reply.send(worker(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubling() -> InOrder<u64, u64> {
        let worker = || {
            |number: u64| {
                // The even ones take longer.
                std::thread::sleep(std::time::Duration::from_micros(200 * (1 - number % 2)));
                2 * number
            }
        };
        InOrder::start("doubler", worker).expect("a machine for tests has several processors")
    }

    #[test]
    fn what_is_done_comes_out_as_it_went_in() {
        let (mut doubling, mut found) = (doubling(), Vec::new());
        for number in 0..300 {
            doubling.add(number);
            found.extend(doubling.next_due());
        }
        assert!(!found.is_empty());
        found.extend(std::iter::from_fn(|| doubling.next()));
        assert_eq!(found, (0..300).map(|number| 2 * number).collect::<Vec<_>>());
        assert!(doubling.is_idle());
    }

    #[test]
    fn work_that_is_given_up_leaves_no_thread() {
        let mut doubling = doubling();
        (0..50).for_each(|number| doubling.add(number));
        drop(doubling);
    }
}
