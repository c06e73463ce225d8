import { scanSocketHolders } from '../../native/socket-holders.ts';
import type { HolderQuestion } from '../thread-holder-finder.ts';

/** The thread behind `thread-holder-finder.ts`: one answer a question, until it is stopped from outside. */
declare const self: Worker;

self.addEventListener('message', (event: MessageEvent<HolderQuestion>) => {
  const { inodes, maxMs, exceptPid } = event.data;
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  self.postMessage(scanSocketHolders(new Set(inodes), { maxMs, exceptPid }));
});
