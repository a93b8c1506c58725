# frozen_string_literal: true

require 'fileutils'
require 'json'
require 'tmpdir'
require 'rspec-puppet'

# Puppet finds a module by the name of its folder.
MODULES = Dir.mktmpdir('distlock-modules')
File.symlink(File.expand_path('..', __dir__), File.join(MODULES, 'distlock'))
at_exit { FileUtils.rm_rf(MODULES) }

RSpec.configure do |c|
  c.setup_fixtures = false
  c.module_path = MODULES
  c.mock_with :rspec
  c.trusted_server_facts = false
  c.default_facts = { 'kernel' => 'Linux', 'os' => { 'family' => 'Debian', 'name' => 'Debian' }, 'osfamily' => 'Debian', 'operatingsystem' => 'Debian' }
end
