import { Argument, type Command } from 'commander';
import { PicketError } from '../../shared/errors/errors.ts';
import { withExamples } from '../example.ts';

/** `picket completion`: a script for the shell, made from the commands themselves. */
export function registerCompletion(program: Command): void {
  withExamples(
    program
      .command('completion')
      .description('print a completion script')
      .addArgument(new Argument('<shell>', 'which shell').choices(['bash', 'zsh', 'fish']))
      .action((shell: string) => {
        process.stdout.write(script(shell, program));
      }),
    'source <(picket completion bash)',
    'picket completion fish > ~/.config/fish/completions/picket.fish',
  );
}

/** Every command path with what can follow it. */
function paths(
  command: Command,
  prefix: string,
): readonly { readonly path: string; readonly words: readonly string[] }[] {
  const words = [
    ...command.commands.map((child) => child.name()),
    ...command.options.flatMap((option) => (option.long === undefined ? [] : [option.long])),
    '--help',
  ];
  return [
    { path: prefix, words },
    ...command.commands.flatMap((child) => paths(child, `${prefix} ${child.name()}`)),
  ];
}

function script(shell: string, program: Command): string {
  const all = paths(program, 'picket');
  switch (shell) {
    case 'bash':
      return bash(all);
    case 'zsh':
      return `autoload -U +X bashcompinit && bashcompinit\n${bash(all)}`;
    case 'fish':
      return fish(all);
    default:
      throw new PicketError(
        'invalid_argument',
        'shell_unknown',
        `There is no completion for the shell "${shell}"`,
      );
  }
}

function bash(all: ReturnType<typeof paths>): string {
  const cases = all.map(({ path, words }) => `    '${path}') words='${words.join(' ')}' ;;`);
  return `_picket() {
  local path=picket words='' word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    [[ $word == -* ]] && continue
    case "$path $word" in
${all.map(({ path }) => `      '${path}') path='${path}' ;;`).join('\n')}
    esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _picket picket
`;
}

function fish(all: ReturnType<typeof paths>): string {
  return all
    .flatMap(({ path, words }) => {
      const parts = path.split(' ').slice(1);
      const condition =
        parts.length === 0
          ? '__fish_use_subcommand'
          : parts.map((part) => `__fish_seen_subcommand_from ${part}`).join('; and ');
      return words.map((word) =>
        word.startsWith('--')
          ? `complete -c picket -n '${condition}' -l ${word.slice(2)}`
          : `complete -c picket -f -n '${condition}' -a ${word}`,
      );
    })
    .join('\n')
    .concat('\n');
}
