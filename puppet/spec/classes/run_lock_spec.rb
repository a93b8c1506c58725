# frozen_string_literal: true

require 'spec_helper'

describe 'distlock::run_lock' do
  context 'with a lock' do
    let(:params) { { 'lock_name' => 'percona_prod' } }

    it { is_expected.to compile.with_all_deps }

    it 'sets both commands for agent and apply' do
      is_expected.to contain_distlock_puppet_conf('main/prerun_command')
        .with(ensure: 'present', value: '/usr/local/bin/distlock-puppet acquire percona_prod')
      is_expected.to contain_distlock_puppet_conf('main/postrun_command')
        .with(ensure: 'present', value: '/usr/local/bin/distlock-puppet release percona_prod')
    end
  end

  context 'with all that can be said' do
    let(:params) do
      {
        'lock_name' => 'x', 'lock_timeout' => -1, 'ttl' => 30, 'reason' => 'nightly run (all nodes)',
        'section' => 'agent', 'puppet_conf' => '/p.conf', 'program' => '/opt/d-p', 'config' => '/d.yaml'
      }
    end

    it 'says it all to the one that acquires, and to the other where the lock is' do
      is_expected.to contain_distlock_puppet_conf('agent/prerun_command').with(
        path: '/p.conf',
        value: "/opt/d-p acquire --timeout=-1 --ttl=30 --config=/d.yaml --reason='nightly run (all nodes)' x",
      )
      is_expected.to contain_distlock_puppet_conf('agent/postrun_command')
        .with(value: '/opt/d-p release --config=/d.yaml x')
    end
  end

  {
    "command_dir => '/opt/bin', config_file => '/d.yaml'" => '/opt/bin/distlock-puppet acquire --config=/d.yaml x',
    "install => 'package'" => '/usr/bin/distlock-puppet acquire --config=/etc/distlock/distlock.yaml x',
  }.each do |of_class, value|
    context "beside the class with #{of_class}" do
      let(:pre_condition) { "class { 'distlock': #{of_class}, pip_options => ['--no-index', '--find-links=/srv/wheels'] }" }
      let(:params) { { 'lock_name' => 'x' } }

      it { is_expected.to contain_distlock_puppet_conf('main/prerun_command').with_value(value).that_requires('Class[distlock]') }
    end
  end

  context 'beside a class with a config file that a shell would read as something else' do
    let(:pre_condition) { "class { 'distlock': config_file => '/$(id)', pip_options => ['--no-index', '--find-links=/srv/wheels'] }" }
    let(:params) { { 'lock_name' => 'x' } }

    it { is_expected.to compile.and_raise_error(%r{Plainpath}i) }
  end

  context 'with runs with noop too' do
    let(:params) { { 'lock_name' => 'x', 'noop_runs' => true } }

    it 'takes the lock there' do
      is_expected.to contain_distlock_puppet_conf('main/prerun_command')
        .with(value: '/usr/local/bin/distlock-puppet acquire --noop-runs x', guards_noop: true)
    end
  end

  context 'with ensure => absent' do
    let(:params) { { 'ensure' => 'absent' } }

    it { is_expected.to contain_distlock_puppet_conf('main/prerun_command').with(ensure: 'absent') }
    it { is_expected.to contain_distlock_puppet_conf('main/postrun_command').with(ensure: 'absent') }
  end

  ['a b', 'a;b', '$(id)', '`id`', "a'b", 'a"b', '--force', "a\nb", '$vardir', '', '__x'].each do |name|
    context "with #{name.inspect} for a lock" do
      let(:params) { { 'lock_name' => name } }

      it { is_expected.to compile.and_raise_error(%r{lock_name}) }
    end
  end

  ["it's", '$vardir', 'a`id`', "a\nb", 'a & b', 'a\\'].each do |reason|
    context "with #{reason.inspect} for a reason" do
      let(:params) { { 'lock_name' => 'x', 'reason' => reason } }

      it { is_expected.to compile.and_raise_error(%r{reason}) }
    end
  end

  context 'without a lock' do
    it { is_expected.to compile.and_raise_error(%r{lock_name is required}) }
  end
end
