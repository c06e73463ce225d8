import { watch, type FSWatcher } from 'node:fs';

/** Hears at once when something comes or goes in a folder. It may miss something, or not be able to hear at all: whoever uses it looks by himself from time to time. */
export class FolderWatch {
  readonly #onChange: () => void;
  readonly #watchers = new Map<string, FSWatcher>();

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** Listens at those that are there and are not listened at yet. */
  follow(folders: readonly string[]): void {
    for (const folder of folders) if (!this.#watchers.has(folder)) this.#begin(folder);
  }

  stop(): void {
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #begin(folder: string): void {
    try {
      const watcher = watch(folder, { persistent: false }, this.#onChange);
      this.#watchers.set(folder, watcher);
      watcher.on('error', () => {
        watcher.close();
        this.#watchers.delete(folder);
      });
    } catch {
      // It is not there yet.
    }
  }
}
