/** The template that is embedded in the binary or that an earlier build left; undefined when there is none. */
export async function findPgliteTemplate(): Promise<Blob | undefined> {
  try {
    const { default: path } = await import('../../dist/pglite-template.tar.gz', { with: { type: 'file' } });
    return Bun.file(path);
  } catch {
    return undefined;
  }
}
