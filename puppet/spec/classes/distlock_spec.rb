# frozen_string_literal: true

require 'spec_helper'

describe 'distlock' do
  let(:config) { '/etc/distlock/distlock.yaml' }

  # What stands in the config file, also where Puppet is to keep it out of its logs.
  def content
    found = catalogue.resource('file', config)[:content]
    found.respond_to?(:unwrap) ? found.unwrap : found
  end

  # Where the package comes from has no default.
  let(:source) { { 'pip_options' => ['--no-index', '--find-links=/srv/wheels'] } }

  context 'with nothing said' do
    it { is_expected.to compile.and_raise_error(%r{say where the package comes from, which is not on PyPI}) }
  end

  context 'with a source alone' do
    let(:params) { source }

    it { is_expected.to compile.with_all_deps }

    it 'installs by pip, into a virtual environment of its own' do
      is_expected.to contain_exec('distlock: /opt/distlock')
        .with(command: ['/usr/bin/python3', '-m', 'venv', '/opt/distlock'], creates: '/opt/distlock/bin/pip')
        .that_comes_before('Package[distlock-core]')
      is_expected.to contain_package('distlock-core')
        .with(ensure: 'present', provider: 'distlock_pip', command: '/opt/distlock/bin/pip', install_options: ['--no-index', '--find-links=/srv/wheels'])
    end

    ['distlock', 'distlock-puppet', 'etcdlocker', 'distlock-etcd'].each do |command|
      it "links #{command}" do
        is_expected.to contain_file("/usr/local/bin/#{command}")
          .with(ensure: 'link', target: "/opt/distlock/bin/#{command}").that_requires('Package[distlock-core]')
      end
    end

    it 'writes a config file that says nothing, for everybody to read' do
      is_expected.to contain_file(config).with(mode: '0644', show_diff: false)
      expect(content).to eq("# Puppet writes this file (class distlock).\n")
    end
  end

  context 'with settings' do
    let(:params) do
      {
        **source,
        'endpoints' => ['https://10.0.0.1:2379', 'https://10.0.0.2:2379'], 'prefix' => '/x/', 'cacert' => '/ca.pem',
        'cert' => '/cert.pem', 'key' => '/key.pem', 'tls_server_name' => 'etcd', 'user' => 'u',
        'discovery_srv' => 'example.org', 'transport' => 'http', 'connect_timeout' => 2,
        'settings' => { 'release_timeout' => 60.5, 'nowait' => true, 'password_file' => '/secret' }
      }
    end

    it 'writes all of them, and only them' do
      expect(content.lines.drop(1).join.split("\n")).to contain_exactly(
        'release_timeout: 60.5', 'nowait: true', 'password_file: "/secret"', 'endpoints:',
        '  - "https://10.0.0.1:2379"', '  - "https://10.0.0.2:2379"', 'prefix: "/x/"', 'cacert: "/ca.pem"',
        'cert: "/cert.pem"', 'key: "/key.pem"', 'tls_server_name: "etcd"', 'user: "u"',
        'discovery_srv: "example.org"', 'transport: "http"', 'connect_timeout: 2'
      )
    end
  end

  [RSpec::Puppet::Sensitive.new('s3cr3t: "x"'), 's3cr3t: "x"'].each do |password|
    context "with the password as #{password.class}" do
      let(:params) { { **source, 'password' => password } }

      it 'keeps it to root, out of diffs, and out of what is logged' do
        is_expected.to contain_file(config).with(mode: '0600', show_diff: false)
        found = catalogue.resource('file', config)
        expect(found.sensitive_parameters).to include(:content)
        expect(content).to include('password: "s3cr3t: \\U00000022x\\U00000022"')
      end
    end
  end

  {
    'two passwords' => { 'password' => 'x', 'password_file' => '/secret' },
    'a password among the settings' => { 'settings' => { 'password' => 'x' } },
    'a key that would be two' => { 'settings' => { "a: b\nc" => 'x' } },
    'an unknown transport' => { 'transport' => 'carrier pigeon' },
    'a relative path' => { 'cacert' => 'ca.pem' },
  }.each do |what, wrong|
    context "with #{what}" do
      let(:params) { { **source, **wrong } }

      it { is_expected.to compile.and_raise_error(%r{distlock|expects}i) }
    end
  end

  context 'with a package of the system' do
    let(:params) { { 'install' => 'package', 'package_name' => 'distlock', 'ensure' => '0.1.0', 'package_provider' => 'dpkg' } }

    it { is_expected.to contain_package('distlock').with(ensure: '0.1.0', provider: 'dpkg') }
    it { is_expected.not_to contain_exec('distlock: /opt/distlock') }
    it { is_expected.not_to contain_file('/usr/local/bin/distlock') }
  end

  context 'with nothing to install' do
    let(:params) { { 'install' => 'none', 'config_file' => '/srv/distlock.yaml', 'config_mode' => '0640' } }
    let(:config) { '/srv/distlock.yaml' }

    it { is_expected.to have_package_resource_count(0) }
    it { is_expected.to contain_file(config).with(mode: '0640') }
    it { is_expected.not_to contain_file('/etc/distlock') }
  end

  context 'with ensure => absent' do
    let(:params) { { 'ensure' => 'absent' } }

    it { is_expected.to contain_file('/opt/distlock').with(ensure: 'absent', force: true) }
    it { is_expected.to contain_file('/usr/local/bin/distlock-puppet').with(ensure: 'absent') }
    it { is_expected.to contain_file(config).with(ensure: 'absent') }
    it { is_expected.not_to contain_package('distlock-core') }
  end
end
