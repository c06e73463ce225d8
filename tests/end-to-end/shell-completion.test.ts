import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
  ['picket policy evaluate --direction out', 'outbound'],
  ['picket audit access --decision al', 'allow'],
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
  test.each(['bash', 'zsh', 'fish'])('offers in %s nothing that the help hides', (shell) => {
    const script = readFileSync(scriptOf(shell), 'utf8');
    expect(script).toContain('check-config');
    expect(script).not.toMatch(/take-over|\bworker\b/);
  });

  test('needs nothing to be loaded before in zsh', async () => {
    const script = `source ${scriptOf('zsh')}; print -r -- $_comps[picket]`;
    expect(await runOk(['zsh', '-f', '-c', script], { cwd: folder, env: { HOME: folder } })).toContain(
      '_picket',
    );
  });

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
