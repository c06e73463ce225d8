import { rename, rm, writeFile } from 'node:fs/promises';
import { PicketError } from '../../shared/errors/errors.ts';
import type { TableJournal } from '../native/nftables.ts';
import type { CaptureSettings } from './capture.ts';
import type { ReturnPath } from './kept-return-routes.ts';
import { NFT_TABLE, renderNftRules } from './nft-rules.ts';
import type { OutboundSteering } from './steer-rules.ts';
import type { TryableCapture } from './tryable-capture.ts';

/** How `nft` is run and where the rules are kept for the next boot. */
export interface NftOptions {
  /** The program with its first arguments, `['nft']` unless given. */
  readonly command?: readonly string[];
  /** A file that always holds the applied rules as a script for `nft -f`, so that a unit can load them before the network is up. */
  readonly rulesFile?: string;
  /** How long one run may take, in milliseconds. */
  readonly timeLimitMs?: number;
  /** Hears of what happens to the table. With it, nobody else's change is taken for what was applied. */
  readonly openJournal?: () => TableJournal;
  /** The number of the last transaction in the kernel. With it, rules that nobody can have changed are not read again. */
  readonly readGeneration?: () => number;
  /** What steers this host's own connections; the rules unless given. */
  readonly outbound?: OutboundSteering;
  /** Programs that the other backend may have left here: they are taken away once the rules do their work. */
  readonly leftOver?: LeftOverPrograms;
  /** What is taken away with the rules. */
  readonly returnPath?: Pick<ReturnPath, 'remove'>;
}

/** As `Steering` of agent/native: those of another network namespace are not there. */
export interface LeftOverPrograms {
  readonly isThere: boolean;
  remove(): void;
}

interface NftRun {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

const TIME_LIMIT_MS = 10_000;
/** How often loading is begun again where others changed something before it was read back. */
const MAX_LOADS = 5;
/** So many processes of ours are known as such after their end: what they changed is heard a little later. */
const MAX_OWN_PIDS = 8;

/** Loading this leaves nothing of ours, whether or not there was something: a table is made only to be deleted with all it holds. */
const REMOVAL = `table ${NFT_TABLE}\ndelete table ${NFT_TABLE}\n`;

/** Capture by nftables, in the network namespace in which it runs. Calls are carried out one after another. */
export class NftCapture implements TryableCapture {
  readonly backend = 'nftables';
  readonly command: readonly string[];
  readonly #outbound: OutboundSteering;
  readonly #leftOver: LeftOverPrograms | undefined;
  readonly #returnPath: Pick<ReturnPath, 'remove'> | undefined;
  readonly #rulesFile: string | undefined;
  readonly #timeLimitMs: number;
  readonly #openJournal: (() => TableJournal) | undefined;
  readonly #readGeneration: (() => number) | undefined;
  readonly #ownPids = new Set<number>();
  /** What was installed last, and how nft writes it. */
  #script: string | undefined;
  #applied: string | undefined;
  /** The last transaction after which the rules were looked at, and were what was installed. */
  #intactAfter: number | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: NftOptions = {}) {
    this.command = options.command ?? ['nft'];
    this.#rulesFile = options.rulesFile;
    this.#timeLimitMs = options.timeLimitMs ?? TIME_LIMIT_MS;
    this.#openJournal = options.openJournal;
    this.#readGeneration = options.readGeneration;
    this.#outbound = options.outbound ?? 'redirect';
    this.#leftOver = options.leftOver;
    this.#returnPath = options.returnPath;
  }

  async apply(settings: CaptureSettings): Promise<void> {
    const script = renderNftRules(settings, this.#outbound);
    await this.#inTurn(async () => {
      await this.#install(script);
      await this.#keepForBoot(script);
      // Until here what they steered was refused: the rules know only what they steer themselves.
      if (this.#leftOver?.isThere === true) this.#leftOver.remove();
    });
  }

  async applyUntilReboot(settings: CaptureSettings): Promise<void> {
    const script = renderNftRules(settings, this.#outbound);
    await this.#inTurn(async () => await this.#install(script));
  }

  isOwn(pid: number): boolean {
    return this.#ownPids.has(pid);
  }

  async keep(): Promise<void> {
    await this.#inTurn(async () => this.#keepForBoot(REMOVAL + ((await this.#list()) ?? '')));
  }

  async isIntact(): Promise<boolean> {
    return await this.#inTurn(async () => {
      if (this.#leftOver?.isThere === true) return false;
      const generation = this.#readGeneration?.();
      // Without a transaction nothing has changed, and nft need not be run: there may be a hundred namespaces.
      if (generation !== undefined && generation === this.#intactAfter) return true;
      const listing = await this.#list();
      const isIntact = listing !== undefined && listing === this.#applied;
      this.#intactAfter = isIntact ? generation : undefined;
      return isIntact;
    });
  }

  async show(): Promise<string> {
    return (await this.#inTurn(() => this.#list())) ?? '';
  }

  /** Asks the kernel whether it would take the rules; nothing is changed. Throws as `apply`. */
  async tryOut(settings: CaptureSettings): Promise<void> {
    await this.#inTurn(async () => await this.#load(renderNftRules(settings, this.#outbound), ['--check']));
  }

  /** The chains of all tables, without their rules, as nft lists them. */
  async listChains(): Promise<string> {
    return await this.#inTurn(async () => {
      const result = await this.#run(['--numeric', 'list', 'chains']);
      if (result.exitCode !== 0) throw refused('list the chains', result);
      return result.stdout;
    });
  }

  async buildRestoreScript(): Promise<string> {
    if (this.#leftOver?.isThere === true) throw cannotTry();
    return REMOVAL + ((await this.#inTurn(() => this.#list())) ?? '');
  }

  restoreCommand(path: string): readonly string[] {
    return [...this.command, '-f', path];
  }

  async remove(): Promise<void> {
    await this.#inTurn(async () => {
      if (this.#leftOver?.isThere === true) this.#leftOver.remove();
      await this.#load(REMOVAL);
      this.#returnPath?.remove();
      this.#script = undefined;
      this.#applied = undefined;
      this.#intactAfter = undefined;
      if (this.#rulesFile !== undefined) await rm(this.#rulesFile, { force: true });
    });
  }

  /**
   * Loads the rules and reads back how nft writes them. A change of somebody else between the two would pass for ours from then on: what is read back counts
   * only if nobody changed anything meanwhile. The same rules again need no reading.
   */
  async #install(script: string): Promise<void> {
    if (script === this.#script) return await this.#load(script);
    for (let loads = 0; loads < MAX_LOADS; loads++) {
      const listing = await this.#loadAndList(script);
      if (listing === undefined) continue;
      this.#script = script;
      this.#applied = listing;
      return;
    }
    const message =
      'Cannot load the capture rules: others change the firewall faster than they are read back';
    throw new PicketError('failed_precondition', 'nft_contested', message);
  }

  /** How nft writes the rules; undefined where it may be somebody else's that it writes. Elements of sets may change meanwhile: another agent that serves until this one does goes on with flows of UDP. */
  async #loadAndList(script: string): Promise<string | undefined> {
    const journal = this.#openJournal?.();
    try {
      await this.#load(script);
      const listing = await this.#list();
      return journal === undefined || journal.countChanges() === 1 ? listing : undefined;
    } finally {
      journal?.close();
    }
  }

  /** The table without counters and without the members of sets that fill themselves; undefined when there is none. */
  async #list(): Promise<string | undefined> {
    const result = await this.#run(['--stateless', '--terse', 'list', 'table', ...NFT_TABLE.split(' ')]);
    if (result.exitCode === 0) return result.stdout;
    if (result.stderr.includes('No such file or directory')) return undefined;
    throw refused('list the capture rules', result);
  }

  async #load(script: string, options: readonly string[] = []): Promise<void> {
    const result = await this.#run([...options, '-f', '-'], script);
    if (result.exitCode !== 0) throw refused('load the capture rules', result);
  }

  async #keepForBoot(script: string): Promise<void> {
    if (this.#rulesFile === undefined) return;
    const draft = `${this.#rulesFile}.new`;
    await writeFile(draft, script, { mode: 0o600 });
    await rename(draft, this.#rulesFile);
  }

  async #run(args: readonly string[], stdin = ''): Promise<NftRun> {
    const child = this.#spawn(args, stdin);
    this.#keepOwn(child.pid);
    const [stdout, stderr, exitCode] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    if (child.signalCode === null) return { exitCode, stdout, stderr };
    const message = `Cannot finish nft within ${this.#timeLimitMs} ms: it ended by ${child.signalCode}`;
    throw new PicketError('failed_precondition', 'nft_timed_out', message);
  }

  #spawn(args: readonly string[], stdin: string): Bun.Subprocess<Buffer, 'pipe', 'pipe'> {
    try {
      return Bun.spawn([...this.command, ...args], {
        stdin: Buffer.from(stdin),
        stdout: 'pipe',
        stderr: 'pipe',
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
        timeout: this.#timeLimitMs,
        killSignal: 'SIGKILL',
      });
    } catch (cause) {
      const message = `Cannot run ${this.command[0]}: is the package nftables installed?`;
      throw new PicketError('failed_precondition', 'nft_missing', message, { cause });
    }
  }

  #keepOwn(pid: number): void {
    this.#ownPids.add(pid);
    for (const oldest of this.#ownPids) {
      if (this.#ownPids.size <= MAX_OWN_PIDS) return;
      this.#ownPids.delete(oldest);
    }
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => undefined);
    return await turn;
  }
}

/** A script for nft cannot bring programs back. */
export function cannotTry(): PicketError {
  const message =
    'Cannot try capture rules over eBPF programs, which could not be brought back: picket agent capture remove, first';
  return new PicketError('failed_precondition', 'capture_trial_over_programs', message);
}

/** At most this much of what nft said goes into a message: it quotes the script. */
const MAX_QUOTED = 600;

function refused(what: string, { exitCode, stderr }: NftRun): PicketError {
  const said = stderr.trim().slice(0, MAX_QUOTED);
  return new PicketError(
    'failed_precondition',
    'nft_refused',
    `Cannot ${what}: nft ended with ${exitCode}: ${said}`,
  );
}
