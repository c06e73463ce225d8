import type { Capture, CaptureSettings } from './capture.ts';

/** A capture that can be tried for a while: what it was before is brought back by a command that needs nothing of this process. */
export interface TryableCapture extends Capture {
  /** Like `apply`, but the file for the next boot stays as it is until `keep` is called: a reboot undoes it. */
  applyUntilReboot(settings: CaptureSettings): Promise<void>;
  /** Keeps the rules that are in the kernel for the next boot. */
  keep(): Promise<void>;
  /** What is in the kernel now, be it nothing, for `restoreCommand`. Throws `failed_precondition`, reason `capture_trial_over_programs`, where it cannot be brought back. */
  buildRestoreScript(): Promise<string>;
  /** The command that brings back what `buildRestoreScript` gave, once that stands in a file. */
  restoreCommand(path: string): readonly string[];
}
