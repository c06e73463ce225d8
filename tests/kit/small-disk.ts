import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { run, runOk } from './child.ts';

/** A small file system under a folder of a program that does not run, with what was in it. Needs root. */
export class SmallDisk {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async under(folder: string, mib: number): Promise<SmallDisk> {
    const content = `${folder}.content`;
    renameSync(folder, content);
    mkdirSync(folder, { mode: 0o700 });
    await runOk(['mount', '-t', 'tmpfs', '-o', `size=${mib}m,mode=700`, 'tmpfs', folder]);
    await runOk(['cp', '-a', `${content}/.`, folder]);
    rmSync(content, { recursive: true });
    return new SmallDisk(folder);
  }

  /** Takes all the room that there is, to the last block. */
  async fill(): Promise<void> {
    const { stderr } = await run(['dd', 'if=/dev/zero', `of=${this.#ballast}`, 'bs=4k']);
    if (!stderr.includes('No space left')) throw new Error(`The disk is not full: ${stderr}`);
  }

  /** Gives it back. */
  free(): void {
    rmSync(this.#ballast, { force: true });
  }

  async remove(): Promise<void> {
    if (existsSync(this.#folder)) await runOk(['umount', this.#folder]);
  }

  get #ballast(): string {
    return join(this.#folder, 'ballast');
  }
}
