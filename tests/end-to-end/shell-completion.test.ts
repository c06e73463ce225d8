import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runOk } from '../kit/child.ts';
import { picketBinary } from '../kit/picket-binary.ts';

/** The scripts of `picket completion` in the shells that they are for. */

/** What is typed, and the one word that it is completed with. */
const TYPED: readonly (readonly [string, string])[] = [
  ['picket pol', 'policy'],
  ['picket policy ro', 'rollback'],
  ['picket node address rem', 'remove'],
  ['picket entry list --par', '--parent'],
  ['picket entry list --js', '--json'],
  ['picket --json audit op', 'operators'],
  ['picket completion fi', 'fish'],
];

let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-completion-'));
  for (const shell of ['bash', 'zsh', 'fish'])
    writeFileSync(scriptOf(shell), await runOk([picketBinary(), 'completion', shell]));
});
afterAll(() => rmSync(folder, { recursive: true }));

function scriptOf(shell: string): string {
  return join(folder, `picket.${shell}`);
}

describe('picket completion', () => {
  test('completes in bash', async () => {
    const complete = `COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _picket; echo "\${COMPREPLY[*]}"`;
    const script = `source ${scriptOf('bash')}; ${complete}`;
    for (const [typed, word] of TYPED)
      expect(await runOk(['bash', '--norc', '-c', script, 'bash', ...typed.split(' ')])).toBe(`${word}\n`);
  });

  test('completes in fish', async () => {
    const script = `source ${scriptOf('fish')}; complete -C $argv[1]`;
    for (const [typed, word] of TYPED)
      expect(await runOk(['fish', '--no-config', '-c', script, typed])).toBe(`${word}\n`);
  });

  test('offers in fish what can follow, and not what could have been there before', async () => {
    const script = `source ${scriptOf('fish')}; complete -C 'picket node address '`;
    const offered = await runOk(['fish', '--no-config', '-c', script]);
    expect(offered).toBe('add\nremove\n');
  });

  test('completes in zsh, at its own prompt', async () => {
    const driver = join(folder, 'driver.zsh');
    writeFileSync(driver, ZSH_DRIVER);
    const typed = TYPED.map(([text]) => text);
    const output = await runOk(['zsh', '-f', driver, scriptOf('zsh'), ...typed], { cwd: folder });
    const got = Array.from(output.matchAll(/GOT<(.*?)>/g), ([, words]) => words);
    expect(got).toEqual(TYPED.map(([text, word]) => text.replace(/^picket (.* )?\S+$/, `$1${word}`)));
  });
});

/** Types each argument after the first and a tab at the prompt of another zsh, where `picket` is a function that tells what it got. */
const ZSH_DRIVER = `zmodload zsh/zpty
zpty shell env PS1= TERM=dumb zsh -f -i
zpty -w shell "autoload -U compinit; compinit -u -D; source $1; picket() { print -r -- \\"GOT<\\$*>\\" }; echo RE''ADY"
zpty -r shell out '*READY*'
shift
for typed in "$@"; do
  zpty -w -n shell "$typed"$'\\t\\n'
  zpty -r shell out '*GOT<*>*'
  print -r -- "$out"
done
zpty -d shell
`;
