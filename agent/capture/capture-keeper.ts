import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Running } from '../../shared/runtime/shutdown.ts';
import type { Capture, CaptureSettings } from './capture.ts';

export interface CaptureKeeperOptions {
  readonly capture: Capture;
  /** Everything but the local ports, which change with registration. */
  readonly settings: Omit<CaptureSettings, 'localPorts'>;
  readonly localPorts: () => readonly number[];
  /** Calls back after the local ports may have changed. */
  readonly watchLocalPorts: (listener: () => void) => () => void;
  /** How often the kernel is asked whether the rules are still ours, in milliseconds; 5 s unless given. */
  readonly lookEveryMs?: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** How the rules stand, for metrics and status. */
export interface CaptureStatus {
  readonly isIntact: boolean;
  /** How often somebody else's change was undone since start. */
  readonly repairs: number;
}

export interface CaptureKeeper extends Running {
  readonly status: CaptureStatus;
}

const LOOK_EVERY_MS = 5000;

/**
 * Installs the rules, follows registration, and undoes what others do to the rules: Debian's own nftables.conf begins with a flush (design: decision 6). Throws
 * when the rules cannot be installed at start. Stopping leaves them in place: they then point at nothing.
 */
export async function startCaptureKeeper(options: CaptureKeeperOptions): Promise<CaptureKeeper> {
  const keeper = new Keeper(options);
  await keeper.start();
  return keeper;
}

class Keeper implements CaptureKeeper {
  readonly #options: CaptureKeeperOptions;
  #unwatch: () => void = () => undefined;
  #cancelLook: () => void = () => undefined;
  #applied = '';
  #isIntact = false;
  #repairs = 0;
  #isStopped = false;
  #last: Promise<void> = Promise.resolve();

  constructor(options: CaptureKeeperOptions) {
    this.#options = options;
  }

  get status(): CaptureStatus {
    return { isIntact: this.#isIntact, repairs: this.#repairs };
  }

  async start(): Promise<void> {
    await this.#apply();
    this.#unwatch = this.#options.watchLocalPorts(() => void this.#enqueue(async () => await this.#follow()));
    this.#scheduleLook();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#unwatch();
    this.#cancelLook();
    await this.#last;
  }

  async #follow(): Promise<void> {
    if (JSON.stringify(this.#options.localPorts()) !== this.#applied) await this.#apply();
  }

  async #look(): Promise<void> {
    if (await this.#options.capture.isIntact()) return;
    this.#isIntact = false;
    this.#options.log.error('capture_rules_changed', { repairs: this.#repairs + 1 });
    await this.#apply();
    this.#repairs += 1;
  }

  async #apply(): Promise<void> {
    const localPorts = this.#options.localPorts();
    await this.#options.capture.apply({ ...this.#options.settings, localPorts });
    this.#applied = JSON.stringify(localPorts);
    this.#isIntact = true;
    this.#options.log.info('capture_applied', { local_ports: localPorts });
  }

  /** A failure is told and tried again at the next look: until then the old rules, or somebody else's flush, stand. */
  #enqueue(work: () => Promise<void>): Promise<void> {
    this.#last = this.#runAfter(this.#last, work);
    return this.#last;
  }

  async #runAfter(before: Promise<void>, work: () => Promise<void>): Promise<void> {
    await before;
    if (this.#isStopped) return;
    try {
      await work();
    } catch (error) {
      this.#isIntact = false;
      this.#options.log.error('capture_failed', { error });
    }
  }

  #scheduleLook(): void {
    if (this.#isStopped) return;
    this.#cancelLook = this.#options.clock.schedule(
      this.#options.lookEveryMs ?? LOOK_EVERY_MS,
      () => void this.#lookAndGoOn(),
    );
  }

  async #lookAndGoOn(): Promise<void> {
    await this.#enqueue(async () => await this.#look());
    this.#scheduleLook();
  }
}
