# frozen_string_literal: true

require 'spec_helper'

describe 'distlock::exec' do
  let(:title) { 'percona_prod' }
  let(:node) { 'db1.example.org' }
  let(:facts) { { 'clientcert' => 'db1.example.org' } }
  let(:run) { catalogue.resource('exec', 'distlock: percona_prod') }

  context 'with a command' do
    let(:params) { { 'command' => ['/bin/echo', '$(id)', "a'b; c", '--timeout=9', ''] } }

    it { is_expected.to compile.with_all_deps }

    it 'hands every word on as it is, with no shell, behind --' do
      expect(run[:command].reject { |word| word.start_with?('--certname=') }).to eq(
        ['distlock-puppet', 'exec', '--command-timeout=300', 'percona_prod', '--',
         '/bin/echo', '$(id)', "a'b; c", '--timeout=9', '']
      )
    end

    it 'bounds the command, and not the wait for the lock' do
      is_expected.to contain_exec('distlock: percona_prod').with(timeout: 0)
    end
  end

  context 'with all that can be said of the lock' do
    let(:title) { 'upgrade' }
    let(:run) { catalogue.resource('exec', 'distlock: upgrade') }
    let(:params) do
      {
        'command' => ['/bin/true'], 'lock_name' => 'percona_prod', 'lock_timeout' => -1, 'reason' => 'RPMs; `all`',
        'ttl' => 60, 'slots' => 2, 'on_failure' => 'keep', 'cooldown' => 300, 'beat' => '1m', 'owner' => 'db1',
        'config' => '/d.yaml', 'program' => '/opt/distlock-puppet', 'timeout' => 3600
      }
    end

    it 'says each as one word' do
      expect(run[:command].reject { |word| word.start_with?('--certname=') }).to eq(
        ['/opt/distlock-puppet', 'exec', '--command-timeout=3600', '--timeout=-1', '--reason=RPMs; `all`', '--ttl=60',
         '--slots=2', '--on-failure=keep', '--cooldown=300', '--beat=1m', '--id=db1', '--config=/d.yaml', 'percona_prod', '--',
         '/bin/true']
      )
    end
  end

  context "with exec's own parameters" do
    own = {
      'unless' => [['/bin/test', '-e', '/x y']], 'onlyif' => ['/bin/true'], 'creates' => '/x', 'refreshonly' => true,
      'logoutput' => true, 'environment' => ['A=b'], 'cwd' => '/', 'user' => 'root', 'group' => 'root',
      'umask' => '0077', 'path' => ['/bin'], 'returns' => [0, 3], 'tries' => 2, 'try_sleep' => 1
    }
    let(:params) { { 'command' => ['true'] }.merge(own) }

    own.each do |name, value|
      # rspec-puppet compares the only element of an array where there is one.
      it("hands #{name} on") { expect([run[name.to_sym]].flatten).to eq([value].flatten) }
    end

    it 'keeps the words of a check apart' do
      expect(run[:unless]).to eq([['/bin/test', '-e', '/x y']])
    end
  end

  context 'beside the class' do
    let(:pre_condition) { "class { 'distlock': command_dir => '/opt/bin', config_file => '/d.yaml', pip_options => ['--no-index', '--find-links=/srv/wheels'] }" }
    let(:params) { { 'command' => ['/bin/true'] } }

    it 'takes program and config file from it, and comes after it' do
      expect(run[:command]).to include('/opt/bin/distlock-puppet', '--config=/d.yaml')
      is_expected.to contain_exec('distlock: percona_prod').that_requires('Class[distlock]')
    end
  end

  {
    'a string for a command' => { 'command' => '/bin/echo a; id' },
    'no word at all' => { 'command' => [] },
    'a lock with a slash' => { 'command' => ['/bin/true'], 'lock_name' => 'a/b' },
    'a lock that looks like an option' => { 'command' => ['/bin/true'], 'lock_name' => '--force' },
    'a lock with a line break' => { 'command' => ['/bin/true'], 'lock_name' => "a\nb" },
    'a ttl of 0' => { 'command' => ['/bin/true'], 'ttl' => 0 },
    'an unknown on_failure' => { 'command' => ['/bin/true'], 'on_failure' => 'panic' },
  }.each do |what, wrong|
    context "with #{what}" do
      let(:params) { wrong }

      it { is_expected.to compile.and_raise_error(%r{expects}) }
    end
  end
end
